"""The engine's nouns: a slot is a row that waits, a job a request that is sent once, a lane an endpoint."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field

from understudy.records import Example
from understudy.teachers.budget import Budget
from understudy.teachers.request import Backend, Reply, Request
from understudy.teachers.settings import Price, Sampling
from understudy.teachers.usage import Meter

Outcome = Reply | Exception


class Waiter:
    """Lets one consumer sleep until the row that it needs next is answered, and wakes it for no other."""

    def __init__(self) -> None:
        self._needed: Slot | None = None
        self._wake = threading.Event()

    def wait(self, slot: Slot) -> Outcome:
        """Sleep until ``slot`` has its outcome."""
        self._needed = slot  # first this, then the look at the outcome; answered() does both the other way round
        while slot.outcome is None:
            self._wake.wait()
            self._wake.clear()
        return slot.outcome

    def answered(self, slot: Slot, outcome: Outcome) -> None:
        """Called by the engine."""
        slot.outcome = outcome
        if self._needed is slot:
            self._wake.set()


@dataclass(frozen=True, slots=True)
class Call:
    """What goes with every request of one handle."""

    sampling: Sampling
    meter: Meter
    price: Price | None = None
    budget: Budget | None = None


@dataclass(slots=True, eq=False)
class Slot:
    """One row of one asker that waits for a reply."""

    example: Example
    request: Request
    call: Call
    waiter: Waiter
    key: str = ""
    outcome: Outcome | None = None
    job: Job | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One request that is sent once. ``asker`` is the slot that it was made for, and pays."""

    key: str
    content: bytes
    asker: Slot
    slots: list[Slot]
    attempts: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """One endpoint: what answers, how many requests at once, and the jobs that wait."""

    backend: Backend
    concurrency: int
    retries: int
    users: int = 0
    queue: deque[Job] = field(default_factory=deque)
    workers: set[asyncio.Task[None]] = field(default_factory=set)
    not_before: float = 0.0  # monotonic seconds; the endpoint told us to wait until then
    failed: Exception | None = None
