"""Texts as sequences of token ids in files, so that memory does not grow with them: laid one a sequence, or packed."""

from __future__ import annotations

import json
import os
import shutil
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DataError
from understudy.pretrained import quiet

Array: TypeAlias = NDArray[Any]

ENCODED_TOGETHER = 256  # texts, or
CHARACTERS_TOGETHER = 1 << 19
LONGEST_TEXT = 1 << 16  # characters: what is longer is read in parts
OPEN = 512  # sequences that wait for a piece that fits
PLACE = "q"  # eight bytes
ABOUT = "sequences.json"


@dataclass(frozen=True)
class Sequences:
    """Sequences in a folder, mapped into memory. One is a list of pieces, a piece the token ids of a text or a part."""

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """``rows`` that were read, ``cut`` texts that lost tokens, ``tokens`` and ``pieces`` that there are."""
        return json.loads((self.folder / ABOUT).read_text("utf-8"))

    @property
    def is_whole(self) -> bool:
        """Whether they were written to their end."""
        return (self.folder / ABOUT).is_file()

    def opened(self) -> Opened:
        """Their content."""
        kinds = {"tokens": self.about["kind"], "pieces": PLACE, "firsts": PLACE}
        return Opened(*(np.memmap(self.folder / name, kinds[name], mode="r") for name in Opened._fields))


class Opened(NamedTuple):
    """What the files hold."""

    tokens: Array  # (tokens,) of the first sequence, then the second, ...
    pieces: Array  # (pieces + 1,): where in tokens each begins, and the end
    firsts: Array  # (sequences + 1,): the first piece of each, and the number of pieces

    def at(self, sequence: int) -> list[Array]:
        """The pieces of a sequence."""
        first, last = self.firsts[sequence : sequence + 2]
        ends = self.pieces[first : last + 1]
        return [self.tokens[a:b] for a, b in pairwise(ends)]

    def sizes(self) -> Array:
        """The tokens of each sequence, (sequences,)."""
        return np.diff(np.asarray(self.pieces[self.firsts]))


def write_sequences(
    folder: Path,
    texts: Iterable[str],
    tokenizer: Any,
    *,
    start: list[int],
    end: list[int],
    max_length: int,
    lines: bool,
    packing: bool,
) -> Sequences:
    """Lay texts into sequences of at most ``max_length`` tokens; the folder appears whole or not at all.

    Every piece has ``start`` before it and ``end`` behind it. Packed, a text is cut only where it is longer than a
    sequence, and its rest goes on in further pieces; each piece then goes into the fullest open sequence that has room
    for it (best fit, Ding et al. 2024, arXiv 2404.10830). Otherwise each text has a sequence, and its rest is lost.

    Args:
        lines: whether each line that is not blank is a text by itself.

    Raises:
        DataError: no text has a token.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    room = max_length - len(start) - len(end)
    rows = cut = 0
    kind = "H" if len(tokenizer) <= 1 << 16 else "I"
    with (
        _Numbers(partial / "tokens", kind) as tokens,
        _Numbers(partial / "pieces", PLACE, [0]) as ends,
        _Numbers(partial / "firsts", PLACE, [0]) as firsts,
    ):
        bins = _Bins(max_length, len(start) + len(end) + 1)

        def close(sequence: list[list[int]]) -> None:
            for piece in sequence:
                tokens.extend(piece)
                ends.extend([tokens.count])
            firsts.extend([ends.count - 1])

        def parts() -> Iterator[str]:
            nonlocal rows, cut
            for text in texts:
                rows += 1
                for line in text.splitlines() if lines else [text]:
                    found = _parts(line)
                    yield from found if packing else islice(found, 1)

        for some in _together(filter(str.strip, parts())):
            for ids in _encoded(tokenizer, some):
                cut += not packing and len(ids) > room
                for at in range(0, len(ids) if packing else 1, room):
                    piece = [*start, *ids[at : at + room], *end]
                    for sequence in bins.add(piece) if packing else [[piece]]:
                        close(sequence)
        for sequence in bins.rest():
            close(sequence)
        about = {"rows": rows, "cut": cut, "tokens": tokens.count, "kind": kind, "pieces": ends.count - 1}
    if not about["pieces"]:
        raise DataError(f"student: none of the {rows:,} texts has anything to learn in it; look at task.fields.input")
    (partial / ABOUT).write_text(json.dumps(about), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return Sequences(folder)


def _parts(text: str) -> Iterator[str]:
    """The text in parts that are not too long to be read at once, cut before a space where there is one."""
    at = 0
    while len(text) - at > LONGEST_TEXT:
        end = text.rfind(" ", at + 1, at + LONGEST_TEXT)
        end = end if end > 0 else at + LONGEST_TEXT
        yield text[at:end]
        at = end
    yield text[at:]


def _together(texts: Iterator[str]) -> Iterator[list[str]]:
    """Some at a time."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if len(held) == ENCODED_TOGETHER or size > CHARACTERS_TOGETHER:
            yield held
            held, size = [], 0
    if held:
        yield held


def _encoded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    how = {"add_special_tokens": False, "return_attention_mask": False}
    with quiet():  # it warns of texts longer than the model
        read = tokenizer(texts, split_special_tokens=True, **how)["input_ids"]  # <mask> in a text is but text
    return [ids for ids in read if ids]


@dataclass
class _Bins:
    """Sequences that are not full yet, by the room that is left in each."""

    size: int
    least: int  # tokens of the shortest piece
    rooms: list[tuple[int, int]] = field(default_factory=list)  # ascending: room, and the number of the sequence
    held: dict[int, list[list[int]]] = field(default_factory=dict)
    count: int = 0

    def add(self, piece: list[int]) -> Iterator[list[list[int]]]:
        """Put a piece where it fits best; the sequences that are done with."""
        place = bisect_left(self.rooms, (len(piece), -1))
        if place < len(self.rooms):
            room, number = self.rooms.pop(place)
        else:
            room, number, self.count = self.size, self.count, self.count + 1
        self.held.setdefault(number, []).append(piece)
        if room - len(piece) < self.least:
            yield self.held.pop(number)
            return
        insort(self.rooms, (room - len(piece), number))
        if len(self.rooms) > OPEN:
            yield self.held.pop(self.rooms.pop(0)[1])

    def rest(self) -> Iterator[list[list[int]]]:
        yield from (self.held[number] for number in sorted(self.held))


class _Numbers:
    """Whole numbers that are appended to a file."""

    def __init__(self, path: Path, kind: str, begins: Iterable[int] = ()) -> None:
        self.file, self.held, self.written = path.open("wb"), array(kind, begins), 0

    def __enter__(self) -> _Numbers:
        return self

    @property
    def count(self) -> int:
        return self.written + len(self.held)

    def extend(self, numbers: Iterable[int]) -> None:
        self.held.extend(numbers)
        if len(self.held) >= 1 << 16:
            self._flush()

    def _flush(self) -> None:
        self.held.tofile(self.file)
        self.written += len(self.held)
        del self.held[:]

    def __exit__(self, *_: object) -> None:
        self._flush()
        self.file.close()
