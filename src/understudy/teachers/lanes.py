"""Where jobs go: an endpoint with its limit and its pauses, and the lanes, one a back end, that share it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

from understudy.errors import TeacherError
from understudy.teachers.jobs import Job, Say
from understudy.teachers.request import Backend, Refused, TryAgain

FIRST = 8  # where so many first requests are all refused, the fault is not in the rows
_PATIENCE_S = 600.0  # how long an endpoint may put us off
_WORTH_SAYING_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One place: how many requests at once, the jobs that wait for it, in order, and until when it must be left alone.

    Times are monotonic seconds.
    """

    concurrency: int
    queue: deque[tuple[Lane, Job]] = field(default_factory=deque)
    busy: int = 0
    not_before: float = 0.0  # it told us to wait until then
    overloaded_since: float | None = None  # it has answered nothing but that since
    said_until: float = 0.0  # the pause that a person was told of ends then

    def put_off(self, fault: TryAgain, attempts: int, name: str, say: Say) -> float:
        """Take note of a fault that may pass: how long its own request has to wait, in seconds.

        Raises:
            TeacherError: the endpoint puts us off for longer than is sensible.
        """
        now = time.monotonic()
        pause_s = fault.after_s or min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempts - 1, 10))
        pause_s *= 1.0 if fault.after_s else random.uniform(0.5, 1.0)
        since = now
        if fault.overloaded:
            since = self.overloaded_since = self.overloaded_since or now
        if now + (fault.after_s or 0.0) - since > _PATIENCE_S:
            raise TeacherError(_put_off(fault, name, now - since))
        if fault.after_s:
            self.not_before = max(self.not_before, now + pause_s)
        if (fault.after_s or fault.overloaded) and pause_s > _WORTH_SAYING_S:
            self._tell(f"the endpoint {name} asks us to wait {pause_s:.0f} s", now + pause_s, say)
        return 0.0 if fault.after_s else pause_s

    def _tell(self, text: str, until: float, say: Say) -> None:
        if until > self.said_until + _WORTH_SAYING_S:  # not for each of the requests that were in flight
            self.said_until = until
            say(text)


@dataclass(slots=True, eq=False)
class Lane:
    """One back end at its endpoint."""

    backend: Backend
    name: str  # of the place, for people
    endpoint: Endpoint
    users: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    failed: Exception | None = None
    has_answered: bool = False
    started: int = 0  # jobs
    refused: int = 0  # of the first ones, in a way that may be common to all

    def judge(self, job: Job, refused: Refused) -> Exception:
        """What a refusal is: the row's own fault or, where it befell all of the first ones, everybody's."""
        if self.has_answered or job.number > FIRST or refused.if_all is None:
            return refused
        self.refused += 1
        are_more = self.started > self.refused or any(lane is self for lane, _ in self.endpoint.queue)
        return refused.if_all if self.refused == FIRST or not are_more else refused

    def withdraw(self) -> list[Job]:
        """Take what waits for this back end out of the queue."""
        queue = self.endpoint.queue
        self.endpoint.queue = deque(one for one in queue if one[0] is not self)
        return [job for lane, job in queue if lane is self]


def given_up(fault: TryAgain, attempts: int) -> Exception:
    """What becomes of a request that was sent often enough."""
    if fault.unreachable:
        return TeacherError(
            f"the teacher stopped answering ({fault.detail}) and did not come back in {attempts} attempts; "
            "every reply is kept: see to the endpoint and run the same command to go on"
        )
    all_failed = TeacherError(
        f"the teacher failed every one of its first requests, {attempts} times each ({fault.detail}); every reply is "
        "kept: see to the endpoint and run the same command to go on"
    )
    return Refused(fault.reason, f"given up after {attempts} attempts: {fault.detail}", if_all=all_failed)


def _put_off(fault: TryAgain, name: str, for_s: float) -> str:
    wish = f"wants {fault.after_s:.0f} s more" if fault.after_s else "still does"
    return (
        f"the endpoint {name} has put us off for {for_s:.0f} s and {wish} ({fault.detail}); {_PATIENCE_S:.0f} s is the "
        "most that is waited. Every reply is kept: run the same command later, or lower teacher.concurrency"
    )
