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

_RowOf: TypeAlias = Callable[[Example, Request], Example]
"""The row that a sample of an example is."""

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
    and what a Dropped holds, so that ids stay unique. No step ever holds that row unless ``parse`` passes it on, so
    children that ``parse`` makes of it get the example as their parent. With ``n`` = 1 the row is the example itself.

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
    requests = _requests(teacher, examples, prompt, n)

    def row_of(example: Example, request: Request) -> Example:
        return example if n == 1 else example.child(step, request.sample)

    if teacher.renders_only:
        return _rehearse(teacher, requests, row_of, step)
    return _ask(teacher, requests, row_of, parse, step)


def _requests(
    teacher: Teacher, examples: Iterable[Example], prompt: Renderer, n: int
) -> Iterator[tuple[Example, Request]]:
    for example in examples:
        messages = prompt(example)
        for sample in range(n):
            yield example, teacher.request(example, messages, sample)


def _ask(
    teacher: Teacher, requests: Iterator[tuple[Example, Request]], row_of: _RowOf, parse: Parse, step: str
) -> Iterator[Row]:
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
            slot = pending.popleft()
            given = row_of(slot.example, slot.request)
            if isinstance(outcome, Refused):
                yield Dropped(given, step, outcome.reason, outcome.detail)
                continue
            for row in _read(given, outcome, parse, step):
                yield _signed(row, slot, given)
    finally:
        teacher.abandon(pending)


def _read(example: Example, outcome: Outcome, parse: Parse, step: str) -> list[Row]:
    if isinstance(outcome, Exception):
        raise outcome
    try:
        return _parsed(example, outcome, parse)
    except ParseError as error:
        return [Dropped(example, step, error.reason, error.detail)]


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


def _signed(row: Row, slot: Slot, given: Example) -> Row:
    """The row with the key of its reply and, where ``given`` would be its parent, the row that was asked about."""
    made = row.example if isinstance(row, Dropped) else row
    parents = tuple(slot.example.id if parent == given.id else parent for parent in made.parents)
    made = made.replace(parents=parents, replies=(*made.replies, slot.key))
    return replace(row, example=made) if isinstance(row, Dropped) else made


def _rehearse(
    teacher: Teacher, requests: Iterator[tuple[Example, Request]], row_of: _RowOf, step: str
) -> Iterator[Row]:
    while batch := list(islice(requests, _SMALLEST_WINDOW)):
        teacher.rehearse([request for _, request in batch])
        for example, request in batch:
            yield Dropped(row_of(example, request), step, "not_sent")
