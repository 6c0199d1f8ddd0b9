"""The records that flow through a study: an Example, or a Dropped one with the reason."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

Target: TypeAlias = str | tuple[str, ...] | None

APOSTROPHES = "'’ʼ`"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row was read: never a path of one machine."""

    dataset: str  # "banking77/train": folder and stem of a file, or the hub's name
    split: str  # the part of the study that it was read for: train, held_back, unlabelled, test
    row: int  # counted from 0 in the file, before skip, limit and sample
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row: what goes in, what should come out, and where it came from.

    ``target`` is a string; a tuple is the labels of a multilabel row or the references of a generation row;
    ``None`` is a row without an answer. ``notes`` holds further texts by the papers' names (``fundamentals``,
    ``mistakes``, ``plan``). ``fields`` is the source row as it was read. ``parents`` are the ids of the rows that
    this one was made of, ``replies`` the ledger keys of the teacher's replies that it holds.
    """

    id: str
    input: str
    target: Target = None
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    parents: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()

    @property
    def answers(self) -> tuple[str, ...]:
        """The target as a tuple: one text, several labels or references, or nothing."""
        return (self.target,) if isinstance(self.target, str) else self.target or ()

    def replace(self, **changes: Any) -> Example:
        """A copy with some fields changed."""
        made = object.__new__(Example)
        for name, put in _PUT.items():  # what dataclasses.replace does, in less than half of the time
            put(made, changes.pop(name) if name in changes else getattr(self, name))
        if changes:
            raise TypeError(f"an Example has no {', '.join(changes)}")
        return made

    def child(self, step: str, part: int | str | None = None, **changes: Any) -> Example:
        """A new row made of this one: its id names the step, its parent is this row."""
        name = f"{self.id}+{step}" if part is None else f"{self.id}+{step}.{part}"
        return self.replace(id=name, parents=(self.id,), **changes)


_PUT = {one.name: getattr(Example, one.name).__set__ for one in fields(Example)}


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that is out: at which step, and why.

    ``reason`` is a stable snake_case word that reports count; ``detail`` is for a person.
    """

    example: Example
    step: str
    reason: str
    detail: str = ""


Row: TypeAlias = Example | Dropped


def normalise(text: str) -> str:
    """Text as it is compared across splits: the same whatever its case, punctuation and way of encoding.

    NFKC and case-folded; apostrophes and format characters such as soft hyphens are dropped; every other run of signs
    is one space. Letters and digits of every script count (``str.isalnum``), with the combining marks on them.
    Where nothing is left, as of an emoji, it is the stripped NFKC text.
    """
    composed = joined = unicodedata.normalize("NFKC", text)
    for c in set(joined):
        if c in APOSTROPHES or unicodedata.category(c) == "Cf":
            joined = joined.replace(c, "")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", joined).casefold())
    signs = {c for c in set(folded) if not c.isalnum()}
    marks = {c for c in signs if unicodedata.category(c).startswith("M")}
    for c in signs - marks:
        folded = folded.replace(c, " ")
    words = folded.split()
    if marks:
        words = [spoken for word in words if (spoken := word[_first_letter(word) :])]
    return " ".join(words) or composed.strip()


def _first_letter(word: str) -> int:
    """Where the first letter or digit of a word stands; the combining marks before it stand on nothing."""
    return next((place for place, c in enumerate(word) if c.isalnum()), len(word))


def digest(*parts: str | bytes, size: int = 16) -> str:
    """A hexadecimal BLAKE2b digest of ``size`` bytes over length-framed parts."""
    h = hashlib.blake2b(digest_size=size)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        h.update(len(raw).to_bytes(8, "little"))
        h.update(raw)
    return h.hexdigest()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one input: a label, a tuple of labels or a text, and a score in [0, 1] a label.

    ``rationale`` is the reasoning that it wrote, answer included; ``notes`` say how it came to it.
    """

    output: Target
    scores: Mapping[str, float] = field(default_factory=dict)
    rationale: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
