"""Rows that are scored several times each, and of which the good ones stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path

from understudy.records import Dropped, Example, Row
from understudy.teachers import NOT_IN_LEDGER, PASSING
from understudy.workspace import twice

NOT_SENT = "not_sent"
LATER = PASSING | {NOT_IN_LEDGER, NOT_SENT}  # with such a reply in hand it may turn out otherwise


def scored(
    rows: Iterable[Row],
    question: Callable[[Row], Example],
    judge: Callable[[Iterable[Example]], Iterator[Row]],
    count: int,
    least: float,
    step: str,
    folder: Path,
) -> Iterator[Row]:
    """The rows with their scores in ``fields``: ``scores``, null where a reply gave none, and their mean
    ``score``. Dropped rows go through, but those that a rehearsal did not send are asked about.

    Dropped are rows: ``low_score``, ``no_score``, or why a reply is not there yet; and after its row each reply without
    a score, as a row of its own.

    Args:
        question: what is asked about a row.
        judge: gives ``count`` rows for each question, in order: the score as the ``target``, or why there is none.
        least: the least mean of a row that stays.
        folder: where dropped rows lie while others wait for their scores.
    """
    asked, rows = twice(rows, folder, also=_is_asked)
    replies = judge(question(row).replace(replies=()) for row in asked)
    for row in rows:
        if isinstance(row, Dropped) and not _is_asked(row):
            yield row
        else:
            yield from _with_scores(row, list(islice(replies, count)), least, step)


def best(rows: Iterable[Row], step: str) -> Iterator[Row]:
    """Of the samples of one row the first with the highest score, the others that were kept as ``not_best``.

    Args:
        step: what the samples are named after, as ``ask`` names several.
    """
    for _, samples in groupby(rows, lambda row: _example(row).id.rpartition(f"+{step}.")[0] or _example(row).id):
        several = list(samples)
        kept = [row for row in several if isinstance(row, Example)]
        top = max(kept, key=lambda row: row.fields["score"], default=None)
        for row in several:
            if top is None or row is top or isinstance(row, Dropped):
                yield row
            else:
                yield Dropped(row, step, "not_best", f"{top.id} has {top.fields['score']}")


def _is_asked(row: Dropped) -> bool:
    return row.reason == NOT_SENT


def _with_scores(row: Row, replies: Sequence[Row], least: float, step: str) -> Iterator[Row]:
    given = [int(one.target) if isinstance(one, Example) and isinstance(one.target, str) else None for one in replies]
    read = [score for score in given if score is not None]
    mean = round(sum(read) / len(read), 4) if read else None
    example = _example(row)
    example = example.replace(
        fields={**example.fields, "scores": given, "score": mean},
        replies=(*example.replies, *(key for one in replies for key in _example(one).replies)),
    )
    later = next((one for one in replies if isinstance(one, Dropped) and one.reason in LATER), None)
    if later:
        yield Dropped(example, step, later.reason, later.detail)
    elif mean is None:
        yield Dropped(example, step, "no_score", f"none of {len(replies)} replies gives one")
    elif mean < least:
        yield Dropped(example, step, "low_score", f"the mean of {', '.join(map(str, read))} is {mean}")
    else:
        yield example
    for number, one in enumerate(replies):
        if isinstance(one, Dropped):
            yield replace(one, example=one.example.replace(id=f"{example.id}+score.{number}", parents=(example.id,)))


def _example(row: Row) -> Example:
    return row.example if isinstance(row, Dropped) else row
