"""Telling a person how far a run is, without the run knowing about terminals."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """Who watches a run. Called from several threads, a few times a second at most for each name."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def step(self, name: str, done: int, total: int | None) -> None:
        """``done`` units of ``name``; ``total`` is ``None`` while nobody knows, and equal to ``done`` at the end."""
        ...


class Silent:
    """Watches and says nothing."""

    def note(self, text: str) -> None: ...

    def step(self, name: str, done: int, total: int | None) -> None: ...
