"""The engine's nouns: a slot is a row that waits, a job a request that is sent once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from understudy.records import Example
from understudy.teachers.budget import Budget
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import Price, Sampling
from understudy.teachers.usage import Meter

Outcome = Reply | Exception

Say: TypeAlias = Callable[[str], None]
"""Told, from the engine's thread, what a person may want to know while nothing comes."""


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
    retries: int
    price: Price | None
    budget: Budget | None
    say: Say


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
    number: int = 0  # of the jobs that its back end began, from 1
    attempts: int = 0
