"""``ask``: rows in, rows out, a teacher in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from understudy.errors import ParseError, SettingsError
from understudy.records import Dropped, Example, Row
from understudy.teachers.engine.jobs import Outcome, Slot
from understudy.teachers.line import Repair
from understudy.teachers.request import Message, Refused, Reply, Request, answer_in
from understudy.teachers.teacher import Teacher

if TYPE_CHECKING:
    from pydantic import BaseModel

Renderer: TypeAlias = Callable[[Example], list[Message]]
"""Makes the messages for one row: a prompt bound to its constants."""

Parse: TypeAlias = Callable[[Example, str], Row | Iterable[Row]]
"""Makes rows of one reply, also Dropped ones. Raises ParseError where it cannot be read at all."""

M = TypeVar("M", bound="BaseModel")

_ParseReply: TypeAlias = Callable[[Example, Reply], Row | Iterable[Row]]

_RowOf: TypeAlias = Callable[[Example, Request], Example]
"""The row that a sample of an example is."""

_SOME = 64  # rows that are read, rendered and looked up together


@overload
def ask(
    teacher: Teacher,
    examples: Iterable[Example],
    prompt: Renderer,
    parse: Callable[[Example, str], Row | Iterable[Row]],
    n: int = 1,
    *,
    step: str = "ask",
) -> Iterator[Row]: ...


@overload
def ask(
    teacher: Teacher,
    examples: Iterable[Example],
    prompt: Renderer,
    parse: Callable[[Example, M], Row | Iterable[Row]],
    n: int = 1,
    *,
    step: str = "ask",
    form: type[M],
) -> Iterator[Row]: ...


@overload
def ask(
    teacher: Teacher,
    examples: Iterable[Example],
    prompt: Renderer,
    parse: Callable[[Example, Reply], Row | Iterable[Row]],
    n: int = 1,
    *,
    step: str = "ask",
    form: type[Reply],
) -> Iterator[Row]: ...


def ask(
    teacher: Teacher,
    examples: Iterable[Example],
    prompt: Renderer,
    parse: Callable[[Example, Any], Row | Iterable[Row]],
    n: int = 1,
    *,
    step: str = "ask",
    form: type[BaseModel] | type[Reply] | None = None,
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
        form: a pydantic model that every reply must fit; ``parse`` is then given an instance of it. An endpoint that
            knows schemas is sent the model's, another is asked for tagged blocks. A reply that does not fit is asked
            for once more, together with what is wrong with it. ``Reply`` gives ``parse`` the whole reply, with what the
            teacher told besides its text.

    Yields:
        What ``parse`` makes, or one Dropped a row. Reasons: those of ``parse``; ``cut_off``, ``empty_reply``,
        ``content_refused``, ``nothing_parsed``; with a form ``not_json``, ``not_the_form``; those of the back end
        (``no_recorded_reply``, ``bad_request``, ``too_long``, ``timed_out``, ...); ``not_sent`` from a teacher that
        only renders.

    Raises:
        BudgetReached: the next request could pass the budget.
        TeacherError: the teacher cannot be used; every reply that came is in the ledger.
    """
    if n < 1:
        raise SettingsError(f"n: at least one sample is needed, got {n!r}")
    schema: Mapping[str, Any] | None = None
    repair: Repair | None = None
    take: Callable[[Reply], Any] = _whole if form is Reply else answer_in
    if form is not None and form is not Reply:
        schema, repair, take = _of_form(cast("type[BaseModel]", form))

    def read(example: Example, reply: Reply) -> Row | Iterable[Row]:
        return parse(example, take(reply))

    teacher.expect(n * len(examples) if isinstance(examples, Sized) else None)
    requests = _requests(teacher, examples, prompt, n, schema)

    def row_of(example: Example, request: Request) -> Example:
        return example if n == 1 else example.child(step, request.sample)

    if teacher.renders_only:
        return _rehearse(teacher, requests, row_of, step)
    some = max(1, _SOME // n) * n  # the samples of one example stay together, to be asked for together
    return _ask(teacher, requests, row_of, read, repair, step, some)


def _requests(
    teacher: Teacher, examples: Iterable[Example], prompt: Renderer, n: int, schema: Mapping[str, Any] | None
) -> Iterator[tuple[Example, Request]]:
    for example in examples:
        messages = prompt(example)
        for sample in range(n):
            yield example, teacher.request(example, messages, sample, schema)


def _ask(
    teacher: Teacher,
    requests: Iterator[tuple[Example, Request]],
    row_of: _RowOf,
    parse: _ParseReply,
    repair: Repair | None,
    step: str,
    some: int,
) -> Iterator[Row]:
    few = max(4 * _SOME, 2 * teacher.settings.concurrency)  # as many are under way or wait to be sent, at least
    line = teacher.line(repair)
    more = True
    try:
        while True:
            while more and line.has_room(few):
                batch = list(islice(requests, some))
                more = len(batch) == some
                teacher.join(line, batch)
            slot = line.first(few if more else -1)
            if slot is None and not more:
                return
            if slot is not None:
                given = row_of(slot.example, slot.request)
                for row in _read(given, slot.outcome, parse, step):
                    yield _signed(row, slot, given)
    finally:
        teacher.abandon(line.waiting())
        line.close()


def _read(example: Example, outcome: Outcome | None, parse: _ParseReply, step: str) -> list[Row]:
    if isinstance(outcome, Refused):
        return [Dropped(example, step, outcome.reason, outcome.detail)]
    if not isinstance(outcome, Reply):
        assert outcome is not None  # the line gives out answered rows only
        raise outcome
    try:
        return _parsed(example, outcome, parse)
    except ParseError as error:
        return [Dropped(example, step, error.reason, error.detail)]


def _parsed(example: Example, reply: Reply, parse: _ParseReply) -> list[Row]:
    made = parse(example, reply)
    rows = [made] if isinstance(made, (Example, Dropped)) else list(made)
    if not rows:
        raise ParseError("nothing_parsed")
    return rows


def _whole(reply: Reply) -> Reply:
    """The reply, if it is an answer."""
    answer_in(reply)
    return reply


def _of_form(form: type[M]) -> tuple[Mapping[str, Any], Repair, Callable[[Reply], M]]:
    """What is sent, what to ask where a reply does not fit, and how it is read."""
    from understudy.teachers.structured import form_of, read_form

    return form_of(form).schema, partial(_repaired, form), lambda reply: read_form(answer_in(reply), form)


def _repaired(form: type[BaseModel], request: Request, reply: Reply) -> Request | None:
    """What to ask where a reply does not fit the form: the same conversation with what is wrong with it."""
    from understudy.teachers.structured import read_form, repair

    try:
        text = answer_in(reply)
    except ParseError:  # to ask once more would bring no other
        return None
    try:
        read_form(text, form)
    except ParseError as error:
        return replace(request, messages=repair(request.messages, text, error))
    return None


def _signed(row: Row, slot: Slot, given: Example) -> Row:
    """The row with the keys of its replies and, where ``given`` would be its parent, the row that was asked about."""
    made = row.example if isinstance(row, Dropped) else row
    is_kept = slot.outcome.in_ledger if isinstance(slot.outcome, Refused) else isinstance(slot.outcome, Reply)
    keys = (slot.unreadable,) * bool(slot.unreadable) + (slot.key,) * is_kept
    if not keys:
        return row
    parents = tuple(slot.example.id if parent == given.id else parent for parent in made.parents)
    made = made.replace(parents=parents, replies=(*made.replies, *keys))
    return replace(row, example=made) if isinstance(row, Dropped) else made


def _rehearse(
    teacher: Teacher, requests: Iterator[tuple[Example, Request]], row_of: _RowOf, step: str
) -> Iterator[Row]:
    while batch := list(islice(requests, _SOME)):
        teacher.rehearse([request for _, request in batch])
        for example, request in batch:
            yield Dropped(row_of(example, request), step, "not_sent")
