"""What the arms of a comparison have in common: the same steps, or tokens, or words, or teacher's effort."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from understudy.errors import SettingsError
from understudy.lessons import Lessons
from understudy.records import Dropped, Example, Row, digest
from understudy.teachers import Ledger, Reply
from understudy.workspace import Rows, Workspace

SENTENCES = {
    "steps": "every student takes the same number of training steps",
    "tokens": "every student is trained on the same number of tokens to within one batch, repetitions counted",
    "words": "every student learns from the same number of words",
    "teacher_tokens": "the rows that the teacher made cost the same number of its tokens in every arm that has any",
    "usd": "the rows that the teacher made cost the same money in every arm that has any",
}


def trim(workspace: Workspace, lessons: Sequence[Lessons], entry: str, ledger: Ledger) -> list[Lessons]:
    """Cut every arm's lessons to what the smallest of them costs, in words, teacher tokens or money.

    Which rows go is decided by a hash of their ids, so that no label and no end of the file is favoured; rows that
    cost nothing in this measure stay. Arms that cost nothing are left as they are.

    Raises:
        SettingsError: nothing is known of the cost of any arm, e.g. of recorded replies in money.
    """
    costs = [_cost(one.rows, entry, ledger) for one in lessons]
    totals = [sum(map(cost, one.rows)) for one, cost in zip(lessons, costs, strict=True)]
    if not any(totals):
        raise SettingsError(f"equal: {entry}: no arm has any known cost in {entry}; take it out of the list")
    limit = min(total for total in totals if total)
    return [_trimmed(workspace, one, entry, cost, limit) for one, cost in zip(lessons, costs, strict=True)]


def _trimmed(
    workspace: Workspace, lessons: Lessons, entry: str, cost: Callable[[Example], float], limit: float
) -> Lessons:
    rows = lessons.rows

    def cut() -> Iterator[Row]:
        first = _first_over(rows, cost, limit)
        for row in rows:
            is_over = first is not None and cost(row) and _place(row) >= first
            yield Dropped(row, f"equal {entry}", f"over_equal_{entry}") if is_over else row

    step = workspace.step(digest("equal", entry, rows.key, repr(limit)), f"equal {entry}", cut, incoming=rows)
    return replace(lessons, steps=(*lessons.steps, step), is_trimmed=True)


def _first_over(rows: Rows, cost: Callable[[Example], float], limit: float) -> int | None:
    """The place of the first row that does not fit, if there is one; 16 bytes a row stay in memory."""
    import numpy as np

    places, costs = array("Q"), array("d")
    for row in rows:
        if spent := cost(row):
            places.append(_place(row))
            costs.append(spent)
    order = np.argsort(places, kind="stable")
    fit = int((np.cumsum(np.asarray(costs)[order]) <= limit * (1 + 1e-9)).sum())
    return places[int(order[fit])] if fit < len(order) else None


def _place(row: Example) -> int:
    """Where a row stands in the order in which they are taken, a hash of its id."""
    return int(digest(row.id)[:16], 16)


def _cost(rows: Rows, entry: str, ledger: Ledger) -> Callable[[Example], float]:
    if entry == "words":
        return _words
    shares = Counter(key for row in rows for key in row.replies)  # one reply may have made several rows
    replies = ledger.get_many(list(shares))

    def price(reply: Reply) -> float:
        return (reply.usd or 0.0) if entry == "usd" else (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)

    prices = {key: price(reply) / shares[key] for key, reply in replies.items()}
    return lambda row: sum(prices.get(key, 0.0) for key in row.replies)


def _words(row: Example) -> float:
    """Those that a student reads. Explanations stand in ``explanations``, and each also in a note of its own."""
    answers = row.target if isinstance(row.target, tuple) else (row.target,)
    notes = (row.notes.get("subject"), row.notes.get("explanations"))
    return sum(len(text.split()) for text in (row.input, *row.choices, *answers, *notes) if text)
