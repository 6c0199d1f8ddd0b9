"""``open_teacher``: from settings to something that can be asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from understudy.errors import SettingsError, TeacherError
from understudy.progress import Asking
from understudy.records import Example
from understudy.settings import did_you_mean, validate
from understudy.teachers.backends.offline import Missing, Offline
from understudy.teachers.budget import Budget
from understudy.teachers.engine.engine import Engine, enter
from understudy.teachers.engine.jobs import Call, Say, Slot
from understudy.teachers.engine.lanes import Lane
from understudy.teachers.ledger import Ledger
from understudy.teachers.line import Line, Repair
from understudy.teachers.prices import with_price
from understudy.teachers.rehearsal import Estimate, Rehearsal
from understudy.teachers.request import Backend, Message, Reply, Request
from understudy.teachers.settings import Price, Sampling, TeacherSettings
from understudy.teachers.usage import Meter, Usage


def _batch(settings: TeacherSettings) -> Backend:
    from understudy.teachers.backends.batch import Batch

    return Batch(settings)


def _openai(settings: TeacherSettings) -> Backend:
    from understudy.teachers.backends.openai import OpenAI

    return OpenAI(settings)


def _recorded(settings: TeacherSettings) -> Backend:
    from understudy.teachers.backends.recorded import Recorded

    return Recorded(settings)


def _transformers(settings: TeacherSettings) -> Backend:
    from understudy.teachers.backends.transformers import Local

    return Local(settings)


BACKENDS: Mapping[str, Callable[[TeacherSettings], Backend]] = {
    "batch": _batch,
    "openai": _openai,
    "recorded": _recorded,
    "transformers": _transformers,
}
"""What ``backend`` may name; others come from the entry-point group ``understudy.teachers``."""


def backend_of(settings: TeacherSettings) -> Backend:
    """Build the back end that the settings name; nothing is opened yet.

    Raises:
        SettingsError: there is none of that name.
    """
    if settings.backend in BACKENDS:
        return BACKENDS[settings.backend](settings)
    from importlib.metadata import entry_points

    installed = {point.name: point for point in entry_points(group="understudy.teachers")}
    if settings.backend not in installed:
        known = sorted({*BACKENDS, *installed})
        raise SettingsError(
            f"teacher.backend: {settings.backend!r} is unknown. {did_you_mean(settings.backend, known)}"
        )
    return installed[settings.backend].load()(settings)


def open_teacher(
    settings: TeacherSettings | Mapping[str, Any],
    ledger: Ledger,
    *,
    budget: Budget | None = None,
    render_only: bool = False,
    keep: int = 100,
    offline: bool = False,
    missing: Missing | None = None,
    say: Say | None = None,
    backend: Backend | None = None,
) -> Teacher:
    """Open a teacher; close it, or use it in a ``with`` statement.

    Teachers that are open on one ledger at the same time and have the same endpoint (URL and key), whatever their
    models, share its limit of concurrency (that of the first) and its pauses, and equal requests of any of them are
    sent once.

    Args:
        settings: those of a teacher, or plain values as in a study.
        budget: the wall that all teachers of a study share.
        render_only: send nothing; keep the first ``keep`` requests in ``rendered`` and count all in ``estimate()``.
        offline: send nothing: only the ledger answers, and rows of what it lacks are dropped as ``not_in_ledger``. What
            is ``recorded`` answers all the same.
        missing: told, from another thread, of each request that an offline teacher's ledger lacks.
        say: told, from another thread, once for every pause of more than 5 s that the endpoint asks for, and what the
            back end says of its own work, as of the batches that it sends.
        backend: one that the caller built, in place of the one that the settings name. It computes here, so it answers
            an offline teacher too.

    Raises:
        SettingsError: unknown back end, no key, or a budget that cannot be kept.
        DataError: a file or model folder is not what the settings say.
    """
    if isinstance(settings, Mapping):
        settings = validate(TeacherSettings, dict(settings), "teacher")
    settings = with_price(settings)
    is_given = backend is not None
    backend = backend or backend_of(settings)
    if offline and settings.backend != "recorded" and not is_given:
        backend = Offline(backend, missing)
        settings = settings.model_copy(update={"requests_per_minute": None, "tokens_per_minute": None})
    budget = budget if backend.costs else None
    if budget is not None:
        budget.check(settings.price, settings.sampling, "teacher")
    say = say or _silent
    place = None if render_only else enter(ledger, settings, backend, say)
    backend = place[1].backend if place else backend
    return Teacher(settings, backend, ledger, budget, place, Meter(), Rehearsal(keep=keep), say)


def close_all(teachers: Iterable[Teacher], *, hurry: bool = False) -> None:
    """Close teachers at the same time: each waits for its requests in flight, with ``hurry`` only shortly."""
    teachers = list(teachers)
    closing = [threading.Thread(target=teacher.close, kwargs={"hurry": hurry}, daemon=True) for teacher in teachers]
    for thread in closing:
        thread.start()
    try:
        for thread in closing:
            thread.join()
    except KeyboardInterrupt:  # somebody waits no longer
        for teacher in teachers:
            teacher.hurry()
        until = time.monotonic() + _LAST_S
        for thread in closing:
            thread.join(max(0.0, until - time.monotonic()))
        raise


_LAST_S = 0.5  # for writing down what was given up


def _silent(text: str) -> None:
    """Nobody wants to know."""


class Teacher:
    """A handle on an open teacher. Handles made of it share its endpoint, its ledger and its budget."""

    def __init__(
        self,
        settings: TeacherSettings,
        backend: Backend,
        ledger: Ledger,
        budget: Budget | None,
        place: tuple[Engine, Lane] | None,
        meter: Meter,
        rehearsal: Rehearsal,
        say: Say,
        opener: Teacher | None = None,
    ) -> None:
        self.settings = settings
        self._backend = backend
        self._ledger = ledger
        self._budget = budget
        self._place = place
        self._meter = meter
        self._rehearsal = rehearsal
        self._say = say
        self._opener = opener or self  # only its close closes
        self._is_open = True
        self._matched: Callable[[Example], str] | None = getattr(backend, "matched", None)
        self._parameters = settings.sampling.parameters()
        self._call = Call(settings.sampling, meter, settings.retries, settings.timeout_s, settings.price, budget, say)

    @property
    def identity(self) -> str:
        """What decides the answers, as canonical JSON for the hashes of steps: never where it runs or how fast."""
        parts = {"teacher": self._backend.identity, "model": self._backend.model, "sampling": self._parameters}
        return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()

    def with_sampling(self, **changes: Any) -> Teacher:
        """A handle that draws its answers in another way, e.g. ``temperature=0.0``; it counts into the same usage.

        Raises:
            SettingsError: no such parameter or value.
        """
        values = {**self.settings.sampling.model_dump(), **changes}
        sampling = validate(Sampling, values, "teacher.sampling")
        if self._budget is not None:
            self._budget.check(self.settings.price, sampling, "teacher")
        return self._handle(self.settings.model_copy(update={"sampling": sampling}), self._meter, self._rehearsal)

    def metered(self) -> Teacher:
        """A handle with a usage and an estimate of its own, which count into those of this one too."""
        return self._handle(self.settings, Meter(self._meter), Rehearsal(self._rehearsal))

    def usage(self) -> Usage:
        """What was asked through this handle and those made of it."""
        return self._meter.read()

    def expect(self, replies: int | None) -> None:
        """So many replies are going to be asked for; ``None`` if nobody knows."""
        self._meter.expect(replies)

    def asking(self) -> Asking:
        """How far what is asked through this handle is."""
        usage, pace = self._meter.read(), self._place[1].endpoint.pace if self._place else None
        return Asking(
            replies=usage.requests + usage.from_ledger,
            expected=self._meter.expected,
            from_ledger=usage.from_ledger,
            tokens=usage.prompt_tokens + usage.completion_tokens,
            in_flight=pace.in_flight if pace else 0,
            limit=int(pace.limit) if pace else 0,
            spent_usd=usage.spent_usd,
            budget=self._budget.tell() if self._budget else "",
            last_fault=pace.last_fault if pace else "",
        )

    @property
    def renders_only(self) -> bool:
        """Whether it was opened with ``render_only``: then it sends nothing."""
        return self._place is None

    @property
    def is_offline(self) -> bool:
        """Whether only the ledger answers; ``usage().requests`` then counts what it lacks."""
        return isinstance(self._backend, Offline)

    @property
    def rendered(self) -> list[list[Message]]:
        """The messages of the first requests of a teacher that only renders."""
        return self._rehearsal.rendered

    def estimate(self) -> Estimate:
        """What a teacher that only renders was asked."""
        return self._rehearsal.read()

    def close(self, *, hurry: bool = False) -> None:
        """Wait for requests in flight, as they are paid for, and let go; handles made of a teacher need no closing.

        Args:
            hurry: wait for 1.5 s at most, as a ``with`` statement does that Ctrl-C ends; else ``timeout_s`` bounds it.
        """
        if self._opener is self and self._is_open:
            self._is_open = False
            if self._place is not None:
                engine, lane = self._place
                engine.leave(lane, hurry=hurry)

    def hurry(self) -> None:
        """Have a ``close`` in another thread wait for nothing more."""
        if self._place is not None:
            engine, lane = self._place
            engine.hurry(lane)

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(hurry=kind is not None and issubclass(kind, KeyboardInterrupt))

    # What ask() uses.

    def request(
        self, example: Example, messages: Sequence[Message], sample: int, schema: Mapping[str, Any] | None = None
    ) -> Request:
        """The request for one sample of an example."""
        matched = self._matched(example) if self._matched else None
        backend = self._backend
        return Request(backend.identity, backend.model, messages, self._parameters, sample, schema, matched)

    def line(self, repair: Repair | None = None) -> Line:
        """A new line of rows that ask this teacher."""
        return Line(self._submit, self.known, repair)

    def join(self, line: Line, batch: Sequence[tuple[Example, Request]]) -> None:
        """Have some requests answered, by the ledger or the endpoint, at the end of a line."""
        line.join(batch, self._call)

    def _submit(self, slots: Sequence[Slot]) -> None:
        if not self._opener._is_open or self._place is None:
            raise TeacherError("this teacher is closed; ask inside its with statement")
        if self._budget is not None:
            self._budget.check_prompts(self.settings.price, (slot.request for slot in slots), "teacher")
        engine, lane = self._place
        engine.submit(lane, slots)

    def known(self, keys: Sequence[str]) -> Mapping[str, Reply]:
        """The replies that the ledger has, by key."""
        return self._ledger.get_many(keys)

    def abandon(self, slots: Iterable[Slot]) -> None:
        """Nobody waits for these any more."""
        if self._place is not None:
            self._place[0].abandon(slots)

    def rehearse(self, requests: Sequence[Request]) -> None:
        """Count some requests instead of sending them."""
        known = self._ledger.get_many([request.key for request in requests])
        unknown = [request for request in requests if request.key not in known]
        price = self.settings.price if self._backend.costs else Price(input=0, output=0)
        self._rehearsal.add(requests, unknown, self.settings.sampling.longest_answer, price)

    def _handle(self, settings: TeacherSettings, meter: Meter, rehearsal: Rehearsal) -> Teacher:
        shared = (self._backend, self._ledger, self._budget, self._place)
        return Teacher(settings, *shared, meter, rehearsal, self._say, self._opener)
