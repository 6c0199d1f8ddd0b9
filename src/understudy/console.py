"""Progress on stderr: live lines on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import Any

SECONDS_BETWEEN_LINES = 5.0


def watch() -> Live | Plain:
    """What suits the stderr we have; a context manager."""
    return Live() if sys.stderr.isatty() else Plain()


class Plain(AbstractContextManager["Plain"]):
    """Lines without a terminal: the first word of a step after a few seconds, then one every few seconds."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def step(self, name: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        with self._lock:
            started = self._started.setdefault(name, now)
            long = now - started > 2
            due = (done == total and long) or now - self._told.get(name, started) >= SECONDS_BETWEEN_LINES
            if due:
                self._told[name] = now
            if done == total:
                self._started.pop(name, None)
        if due:
            print(f"{name}: {_amount(done, total)}, {now - started:.0f} s", file=sys.stderr, flush=True)


class Live(AbstractContextManager["Live"]):
    """A line for each step under way, taken away when it is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def step(self, name: str, done: int, total: int | None) -> None:
        with self._lock:
            if done == total:
                if (task := self._tasks.pop(name, None)) is not None:
                    self._progress.remove_task(task)
                return
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, amount="")
            self._progress.update(self._tasks[name], completed=done, amount=_amount(done, total))


def _amount(done: int, total: int | None) -> str:
    return f"{done:,}" if total in (None, done) else f"{done:,} of {total:,}"
