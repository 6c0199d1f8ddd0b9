"""The engine's nouns: a slot is a row that waits, a job a request that is sent once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from understudy.records import Example
from understudy.teachers.budget import NOTHING, Budget, Spending
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import Price, Sampling
from understudy.teachers.usage import Meter

Outcome: TypeAlias = Reply | Exception

Say: TypeAlias = Callable[[str], None]
"""Told, from the engine's thread, what a person may want to know while nothing comes."""


class Waiter(Protocol):
    """Who waits for slots."""

    def answered(self, slot: Slot) -> None:
        """Called once for each slot, from any thread, when it has its outcome."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What goes with every request of one handle."""

    sampling: Sampling
    meter: Meter
    retries: int
    timeout_s: float
    price: Price | None
    budget: Budget | None
    say: Say


@dataclass(slots=True, eq=False)
class Slot:
    """One row of one asker that waits for a reply."""

    place: int  # in the order of its asker's rows
    example: Example
    request: Request
    call: Call
    waiter: Waiter
    lane: Any = None  # where it would be asked
    key: str = ""
    unreadable: str = ""  # key of a first reply, of which this is the repair
    outcome: Outcome | None = None
    is_told: bool = False  # its waiter was told of the outcome
    job: Job | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One request that is sent once. ``asker`` is the slot that it was made for, and pays."""

    key: str
    content: bytes
    asker: Slot
    slots: list[Slot]
    others: list[Job] = field(default_factory=list)  # further samples of the same messages, sent along with it
    number: int = 0  # of the jobs that its back end began, from 1
    tokens: int = 0  # that it is taken to use, where that is limited
    most: Spending = NOTHING  # that an attempt can cost
    budget: Budget | None = None  # which has set that aside
    attempts: int = 0
    faults: int = 0  # that count against the row
    is_alone: bool = False  # it was refused together with others, perhaps only for that
    leased_since: float | None = None  # another process has had it in flight since

    @property
    def all(self) -> list[Job]:
        """This and the samples that go with it."""
        return [self, *self.others]
