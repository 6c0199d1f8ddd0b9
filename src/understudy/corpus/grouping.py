"""Sentences by fives, as the rows of a study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from understudy.corpus.documents import STEP
from understudy.corpus.sentences import Sentence
from understudy.records import Dropped, Example, Row, digest


def groups(sentences: Iterable[Sentence | Dropped], size: int = 5, keep_last: bool = True) -> Iterator[Row]:
    """Rows of ``size`` sentences in the order given. Dropped ones go through.

    A row's ``input`` is its sentences joined by a space, ``fields["sentences"]`` each one's text, file, document and
    sentence number, ``parents`` their ids; its own id is a digest of their ids and texts.

    Args:
        size: at least 1.
        keep_last: whether a last group with fewer sentences is a row too, or dropped as ``short_group``.
    """
    held: list[Sentence] = []
    for one in sentences:
        if isinstance(one, Dropped):
            yield one
            continue
        held.append(one)
        if len(held) == size:
            yield _group(held)
            held = []
    if held:
        last = _group(held)
        yield last if keep_last else Dropped(last, STEP, "short_group", f"{len(held)} of {size} sentences")


def _group(held: Sequence[Sentence]) -> Example:
    return Example(
        id=f"group-{digest(*(part for one in held for part in (one.id, one.text)), size=8)}",
        input=" ".join(one.text for one in held),
        fields={
            "sentences": [
                {"text": one.text, "file": one.file, "document": one.document, "sentence": one.number} for one in held
            ]
        },
        parents=tuple(one.id for one in held),
    )
