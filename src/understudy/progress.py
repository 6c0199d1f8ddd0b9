"""Telling a person how far a run is, without the run knowing about terminals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    @classmethod
    def together(cls, parts: Sequence[Asking]) -> Asking:
        """How far a step is that asks several teachers, under one budget."""
        if len(parts) == 1:
            return parts[0]
        expected = [part.expected for part in parts]
        return cls(
            replies=sum(part.replies for part in parts),
            expected=None if None in expected else sum(filter(None, expected)),
            from_ledger=sum(part.from_ledger for part in parts),
            tokens=sum(part.tokens for part in parts),
            in_flight=max(part.in_flight for part in parts),  # they may be at one endpoint
            limit=max(part.limit for part in parts),
            spent_usd=sum(part.spent_usd for part in parts),
            budget=parts[-1].budget,
            last_fault=next((part.last_fault for part in parts if part.last_fault), ""),
        )


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
