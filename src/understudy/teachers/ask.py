"""``ask``: rows in, rows out, a teacher in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

from understudy.errors import ParseError, SettingsError
from understudy.records import Dropped, Example, Row
from understudy.teachers.jobs import Outcome, Slot, Waiter
from understudy.teachers.request import Message, Refused, Reply, Request
from understudy.teachers.teacher import Teacher

Renderer: TypeAlias = Callable[[Example], list[Message]]
"""Makes the messages for one row: a prompt bound to its constants."""

Parse: TypeAlias = Callable[[Example, str], Row | Iterable[Row]]
"""Makes rows of one reply, also Dropped ones. Raises ParseError where it cannot be read at all."""

_WINDOW = 4  # rows that wait, as a multiple of the concurrency: what waits for a slow row does not idle the teacher
_SMALLEST_WINDOW = 64


def ask(
    teacher: Teacher,
    examples: Iterable[Example],
    prompt: Renderer,
    parse: Parse,
    n: int = 1,
    *,
    step: str = "ask",
) -> Iterator[Row]:
    """Ask the teacher about each example ``n`` times and read its replies.

    Rows leave in the order in which their examples came, samples of one example in theirs; examples are read only as
    far ahead as keeps the teacher busy. What ``parse`` makes gets the reply's ledger key added to its ``replies``.

    With ``n`` over 1 each sample is a row of its own, ``example.child(step, sample)``: it is what ``parse`` is given
    and what a Dropped holds, so that ids stay unique. With ``n`` = 1 that row is the example itself.

    Args:
        prompt: makes the messages; its words are part of the ledger key, its code is not.
        parse: makes rows of a reply's text, or raises ParseError.
        step: the name of the step in ids and Dropped rows.

    Yields:
        What ``parse`` makes, or one Dropped a row. Reasons: those of ``parse``; ``cut_off``, ``empty_reply``,
        ``content_refused``, ``nothing_parsed``; those of the back end (``no_recorded_reply``, ``bad_request``,
        ``too_long``, ``timed_out``, ...); ``not_sent`` from a teacher that only renders.

    Raises:
        BudgetReached: the next request could pass the budget.
        TeacherError: the teacher cannot be used; every reply that came is in the ledger.
    """
    if n < 1:
        raise SettingsError(f"n: at least one sample is needed, got {n!r}")
    requests = _requests(teacher, examples, prompt, n, step)
    return _rehearse(teacher, requests, step) if teacher.renders_only else _ask(teacher, requests, parse, step)


def _requests(
    teacher: Teacher, examples: Iterable[Example], prompt: Renderer, n: int, step: str
) -> Iterator[tuple[Example, Request]]:
    for example in examples:
        messages = prompt(example)
        for sample in range(n):
            yield example if n == 1 else example.child(step, sample), teacher.request(messages, sample)


def _ask(teacher: Teacher, requests: Iterator[tuple[Example, Request]], parse: Parse, step: str) -> Iterator[Row]:
    window = max(_SMALLEST_WINDOW, _WINDOW * teacher.settings.concurrency)
    some = window // 4  # read and looked up at once
    waiter = Waiter()
    pending: deque[Slot] = deque()
    more = True
    try:
        while True:
            while more and len(pending) <= window - some:
                batch = list(islice(requests, some))
                more = len(batch) == some
                pending.extend(teacher.submit(batch, waiter))
            if not pending:
                return
            outcome = waiter.wait(pending[0])
            yield from _read(pending.popleft(), outcome, parse, step)
    finally:
        teacher.abandon(pending)


def _read(slot: Slot, outcome: Outcome, parse: Parse, step: str) -> Iterator[Row]:
    example = slot.example
    if isinstance(outcome, Refused):
        yield Dropped(example, step, outcome.reason, outcome.detail)
        return
    if isinstance(outcome, Exception):
        raise outcome
    try:
        rows = _parsed(example, outcome, parse)
    except ParseError as error:
        rows = [Dropped(example, step, error.reason, error.detail)]
    for row in rows:
        yield _with_reply(row, slot.key)


def _parsed(example: Example, reply: Reply, parse: Parse) -> list[Row]:
    if reply.finish_reason == "length":
        raise ParseError("cut_off", "the answer was cut off; a larger sampling.max_tokens lets it end")
    if reply.finish_reason == "content_filter":
        raise ParseError("content_refused", reply.text)
    if not reply.text.strip():
        raise ParseError("empty_reply")
    made = parse(example, reply.text)
    rows = [made] if isinstance(made, (Example, Dropped)) else list(made)
    if not rows:
        raise ParseError("nothing_parsed")
    return rows


def _with_reply(row: Row, key: str) -> Row:
    if isinstance(row, Dropped):
        return replace(row, example=row.example.replace(replies=(*row.example.replies, key)))
    return row.replace(replies=(*row.replies, key))


def _rehearse(teacher: Teacher, requests: Iterator[tuple[Example, Request]], step: str) -> Iterator[Row]:
    while batch := list(islice(requests, _SMALLEST_WINDOW)):
        teacher.rehearse([request for _, request in batch])
        for example, _ in batch:
            yield Dropped(example, step, "not_sent")
