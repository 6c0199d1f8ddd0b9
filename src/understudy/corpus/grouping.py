"""Sentences by fives, as the rows of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from understudy.corpus.sentences import Sentence, sentences
from understudy.corpus.shuffle import shuffled
from understudy.records import Dropped, Example, Row, digest


def grouped(
    rows: Iterable[Example],
    *,
    size: int,
    seed: int,
    folder: Path,
    language: str = "en",
    wrapped: bool = False,
    min_words: int = 2,
    max_characters: int = 2_000,
) -> Iterator[Row]:
    """The sentences of all rows in a random order, as rows of ``size`` sentences; a last row may have fewer.

    The order depends on the seed, the rows' ids and nothing else, and memory does not grow with the rows. A group's
    ``input`` is its sentences joined by a space, ``fields["sentences"]`` each one's ``text``, the id of its ``row`` and
    its number in it as ``sentence``, ``parents`` the ids of the rows; its own id is a digest of all these. What is
    dropped, as ``sentences`` says, comes before the groups.

    Args:
        size: at least 1.
        folder: where the sentences lie meanwhile, as ``shuffled`` says; this call's own.
        language, wrapped, min_words, max_characters: as of ``sentences``.

    Raises:
        MissingPackage, OutOfSpace, WorkspaceError: as ``sentences`` and ``shuffled``; raised as the rows are drawn.
    """
    found = sentences(rows, language=language, wrapped=wrapped, min_words=min_words, max_characters=max_characters)
    held: list[Sentence] = []
    for one in shuffled(found, seed, folder):
        if isinstance(one, Dropped):
            yield one
            continue
        held.append(one)
        if len(held) == size:
            yield _group(held)
            held = []
    if held:
        yield _group(held)


def _group(held: Sequence[Sentence]) -> Example:
    return Example(
        id=f"group-{digest(*(part for one in held for part in (one.row, str(one.number), one.text)), size=8)}",
        input=" ".join(one.text for one in held),
        fields={"sentences": [{"text": one.text, "row": one.row, "sentence": one.number} for one in held]},
        parents=tuple(dict.fromkeys(one.row for one in held)),
    )
