"""Progress on stderr: live lines on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from understudy.progress import Asking

SECONDS_BETWEEN_LINES = 5.0
_SHORT_S = 2.0  # a step that is done sooner is not worth a line
_FEW = 10  # units tell no pace: the first of many that come together waited for all of them


def watch() -> Live | Plain:
    """What suits the stderr we have; a context manager."""
    return Live() if sys.stderr.isatty() else Plain()


@dataclass(slots=True)
class _Step:
    """One step under way."""

    done: int
    total: int | None
    asking: Callable[[], Asking] | None
    first: int = 0  # done when it was first heard of, e.g. by an earlier run
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def said(self) -> str:
        elapsed_s = time.monotonic() - self.started
        rows = f"{self.done:,}" if self.total in (None, self.done) else f"{self.done:,} of {self.total:,}"
        rows += " rows" if self.asking else ""
        more = _said(self.asking(), elapsed_s) if self.asking else self._pace(elapsed_s)
        return ", ".join([rows, *more, f"{elapsed_s:.0f} s"])

    def _pace(self, elapsed_s: float) -> list[str]:
        """How fast it goes and how long it will take, where both can be known."""
        if not self.total or self.done == self.total or self.done - self.first < _FEW:
            return []
        rate = (self.done - self.first) / max(elapsed_s, 0.1)
        return [_rate(rate), f"about {_time((self.total - self.done) / rate)} left"]


class _Steps:
    """The steps under way, by name."""

    def __init__(self) -> None:
        self.open: dict[str, _Step] = {}
        self.lock = threading.Lock()

    def put(self, name: str, done: int, total: int | None, asking: Callable[[], Asking] | None) -> _Step:
        """Note how far a step is; with ``done`` = ``total`` it is not under way any more."""
        step = self.open.setdefault(name, _Step(done, total, asking, first=done))
        step.done, step.total = done, total
        if done == total:
            del self.open[name]
        return step


class Plain(AbstractContextManager["Plain"]):
    """Lines without a terminal: for each step one every few seconds, and one at its end if it took that long."""

    def __init__(self) -> None:
        self._steps = _Steps()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Plain:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def step(self, name: str, done: int, total: int | None, asking: Callable[[], Asking] | None = None) -> None:
        with self._steps.lock:
            step = self._steps.put(name, done, total, asking)
        if done == total and time.monotonic() - step.started > _SHORT_S:
            self.note(f"{name}: {step.said()}")

    def _tell(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_LINES / 5):
            now = time.monotonic()
            with self._steps.lock:
                due = [(n, s) for n, s in self._steps.open.items() if now - s.told >= SECONDS_BETWEEN_LINES]
            for name, step in due:
                step.told = now
                self.note(f"{name}: {step.said()}")


class Live(AbstractContextManager["Live"]):
    """A line for each step under way, taken away when it is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as Lines

        self._steps = _Steps()
        self._console = Console(stderr=True)
        self._lines = Lines(console=self._console, get_renderable=self._table, transient=True, refresh_per_second=4)

    def __enter__(self) -> Live:
        self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def step(self, name: str, done: int, total: int | None, asking: Callable[[], Asking] | None = None) -> None:
        with self._steps.lock:
            self._steps.put(name, done, total, asking)

    def _table(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        lines = Table.grid(padding=(0, 1))
        with self._steps.lock:
            under_way = list(self._steps.open.items())
        for name, step in under_way:
            bar = ProgressBar(step.total, step.done, width=20) if step.total else ""
            lines.add_row(Text(name, style="bold"), bar, Text(step.said()))
        return lines


def _said(asking: Asking, elapsed_s: float) -> list[str]:
    """What a person wants to know of a step that asks a teacher."""
    rate = asking.replies / max(elapsed_s, 0.1)
    left_s = (asking.expected - asking.replies) / rate if asking.expected and rate else 0.0
    parts = [
        f"{asking.replies:,}" + (f" of {asking.expected:,}" if asking.expected else "") + " replies",
        f"{asking.from_ledger:,} from the ledger" if asking.from_ledger else "",
        f"{asking.in_flight} in flight of {asking.limit}" if asking.in_flight else "",
        _rate(rate),
        f"{asking.tokens:,} tokens" if asking.tokens else "",
        asking.budget or (f"${asking.spent_usd:,.2f}" if asking.spent_usd else ""),
        f"about {_time(left_s)} left" if left_s >= 1 else "",
        f"last fault: {asking.last_fault}" if asking.last_fault else "",
    ]
    return [part for part in parts if part]


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _time(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60:.0f} s" if minutes else f"{seconds:.0f} s"
