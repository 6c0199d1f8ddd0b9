"""Telling a person how far a run is, without the run knowing about terminals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Asking:
    """How far a step is that asks a teacher."""

    replies: int  # so far, of the ledger and of the teacher
    expected: int | None  # in all
    from_ledger: int
    tokens: int  # of all replies, prompts included
    in_flight: int
    limit: int  # what may be in flight now
    spent_usd: float  # by this step, now
    budget: str  # what is left of it, or nothing
    last_fault: str


class Watch(Protocol):
    """Who watches a run. Called from several threads, a few times a second at most for each name."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def step(self, name: str, done: int, total: int | None, asking: Callable[[], Asking] | None = None) -> None:
        """``done`` units of ``name``; ``total`` is ``None`` while nobody knows, and equal to ``done`` at the end.

        ``asking`` may be called at any time until then, also while no row comes.
        """
        ...


class Silent:
    """Watches and says nothing."""

    def note(self, text: str) -> None: ...

    def step(self, name: str, done: int, total: int | None, asking: Callable[[], Asking] | None = None) -> None: ...
