"""Where jobs go: an endpoint with its queue and its pace, and the lanes, one a back end, that share it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from understudy.errors import TeacherError
from understudy.teachers.engine.jobs import Job
from understudy.teachers.engine.pace import Pace
from understudy.teachers.request import PASSING, Backend, Refused, TryAgain

FIRST = 8  # where so many first requests are all refused, the fault is not in the rows
_IN_A_ROW = 64  # where so many requests are given up and none is answered, the rest need not be tried
_KINDS = 200  # of failures that are told apart
_ENOUGH = 50  # failures from which their share says something
_NUMBERS = re.compile(r"\w*\d\w*")


@dataclass(slots=True, eq=False)
class Endpoint:
    """One model at one place: the jobs that wait for it, in order, and how fast they may go."""

    pace: Pace
    queue: deque[tuple[Lane, Job]] = field(default_factory=deque)
    is_woken: bool = False  # it will be looked at in this turn of the loop
    timer: asyncio.TimerHandle | None = None  # it will be looked at later

    def look_again(self, timer: asyncio.TimerHandle) -> None:
        """Let one timer wake it, the last."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer

    def next(self) -> tuple[Lane, Job]:
        """The job whose turn it is; while the endpoint is down, one that never failed."""
        if not self.pace.is_down:
            return self.queue.popleft()
        fresh = next((place for place, (_, job) in enumerate(self.queue) if not job.attempts), None)
        if fresh is None:
            self.pace.nothing_new()
            return self.queue.popleft()
        self.queue.rotate(-fresh)
        chosen = self.queue.popleft()
        self.queue.rotate(fresh)
        return chosen


@dataclass(slots=True, eq=False)
class Lane:
    """One back end at its endpoint."""

    backend: Backend
    endpoint: Endpoint
    max_failures: float  # share of requests that may fail
    users: int = 0
    is_hurried: bool = False  # nothing is waited for any more
    tasks: dict[Job, asyncio.Task[None]] = field(default_factory=dict)  # one a job in flight
    later: dict[Job, asyncio.TimerHandle] = field(default_factory=dict)  # jobs that failed and are sent again then
    failed: Exception | None = None
    has_answered: bool = False
    is_known: bool = True  # the ledger had some of the jobs that came last
    started: int = 0  # jobs
    refused: int = 0  # of the first ones, in a way that may be common to all
    answered: int = 0  # jobs, of the ledger too
    given_up: int = 0  # jobs since the last answer
    failures: Counter[str] = field(default_factory=Counter)  # jobs that failed for good, by what was said but numbers
    examples: dict[str, str] = field(default_factory=dict)  # of what was said
    lock: threading.Lock = field(default_factory=threading.Lock)  # askers count answers of the ledger
    takes_n: bool | None = None  # whether it answers several samples of one request; None: nobody knows yet
    keeps_refusals: bool = True  # in the ledger

    @property
    def outlives(self) -> bool:
        """Whether what is in flight goes on without us."""
        return hasattr(self.backend, "reserve")

    def is_trial(self, job: Job) -> bool:
        """Whether a job finds out how the endpoint answers such a request: one at a time does."""
        return job.asker.request.schema is not None and getattr(self.backend, "is_trying", False)

    def is_trying(self) -> bool:
        """Whether such a one is in flight."""
        return any(job.asker.request.schema is not None for job in self.tasks)

    def count_answers(self, more: int) -> None:
        """So many jobs were answered."""
        with self.lock:
            self.answered += more
        self.given_up = 0

    def next_number(self) -> int:
        """The number of the next job."""
        self.started += 1
        return self.started

    def judge(self, job: Job, refused: Refused) -> Exception:
        """What a refusal is: the row's own fault or, where too many meet it, everybody's."""
        told = f"{refused.reason}: {refused.detail}"
        kind = _NUMBERS.sub("#", told)  # which often are of the one request alone
        kind = kind if kind in self.failures or len(self.failures) < _KINDS else refused.reason
        self.failures[kind] += 1
        self.examples.setdefault(kind, told)
        if not self.has_answered and job.number <= FIRST and refused.if_all is not None:
            self.refused += 1
            are_more = self.started > self.refused or any(lane is self for lane, _ in self.endpoint.queue)
            if self.refused == FIRST or not (are_more or self.later):
                return refused.if_all
        self.given_up = self.given_up + 1 if refused.reason in PASSING else 0
        if self.given_up >= _IN_A_ROW:
            return TeacherError(
                f"{self.given_up} requests to {self.endpoint.pace.name} in a row were given up ({refused.detail}); "
                "every reply is kept: see to the endpoint and run the same command to go on"
            )
        failed = self.failures.total()
        if self.backend.costs and failed >= _ENOUGH and failed > self.max_failures * (failed + self.answered):
            return TeacherError(self._too_many(failed))
        return refused

    def withdraw(self) -> list[Job]:
        """Take what waits for this back end out of the queue."""
        queue, later = self.endpoint.queue, self.later
        self.endpoint.queue, self.later = deque(one for one in queue if one[0] is not self), {}
        for timer in later.values():
            timer.cancel()
        return [job for lane, job in queue if lane is self] + list(later)

    def _too_many(self, failed: int) -> str:
        often = "; ".join(f"{count:,} times {self.examples[kind]}" for kind, count in self.failures.most_common(3))
        return (
            f"{failed:,} of {failed + self.answered:,} requests to {self.endpoint.pace.name} failed: {often}. That is "
            f"more than teacher.max_failures ({self.max_failures:g}) allows; every reply is kept: mend what is said "
            "here, or raise it, and run the same command to go on"
        )


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
