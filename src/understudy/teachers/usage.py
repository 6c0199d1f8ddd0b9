"""What a teacher's replies came to, counted for each handle on its own."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from understudy.teachers.request import Reply


@dataclass(slots=True)
class Usage:
    """What was asked through one handle. Tokens and usd are those of all its replies, whichever run paid for them."""

    requests: int = 0  # answered or refused by the teacher now
    from_ledger: int = 0  # answered by the ledger, or together with an equal request; or known to have been refused
    attempts: int = 0  # sent, retries counted
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    spent_usd: float = 0.0  # paid now
    unpriced: int = 0  # replies whose price nobody knows
    uncounted: int = 0  # replies whose tokens nobody counted
    recorded: int = 0  # replies to prompts that were not ours
    written: dict[str, int] = field(default_factory=dict)  # replies written outside any endpoint, by who and when

    @classmethod
    def total(cls, uses: Iterable[Mapping[str, Any]]) -> Usage:
        """The sum of several, each as a mapping."""
        sums = asdict(cls())
        for use in uses:
            for name, count in use.items():
                sums[name] = dict(Counter(sums[name]) + Counter(count)) if name == "written" else sums[name] + count
        return cls(**sums)


class Meter:
    """A running Usage; what is counted here is counted in ``parent`` too."""

    def __init__(self, parent: Meter | None = None) -> None:
        self._usage = Usage()
        self._parent = parent
        self.expected: int | None = 0  # replies in all; None where nobody knows
        self._lock = threading.Lock()

    def read(self) -> Usage:
        """A copy of the counts so far."""
        with self._lock:
            return replace(self._usage, written=dict(self._usage.written))

    def expect(self, replies: int | None) -> None:
        """So many more replies are to come."""
        with self._lock:
            known = None not in (self.expected, replies)
            self.expected = (self.expected or 0) + (replies or 0) if known else None
        if self._parent is not None:
            self._parent.expect(replies)

    def asked(self, attempts: int, reply: Reply | None) -> None:
        """The teacher was asked and answered, or did not (``None``)."""
        with self._lock:
            self._usage.requests += 1
            self._usage.attempts += attempts
            if reply is not None:
                self._usage.spent_usd += reply.usd or 0.0
                self._count(reply)
        if self._parent is not None:
            self._parent.asked(attempts, reply)

    def known(self, reply: Reply | None) -> None:
        """The ledger or an equal request had the reply, or the ledger how the request was refused (``None``)."""
        with self._lock:
            self._usage.from_ledger += 1
            if reply is not None:
                self._count(reply)
        if self._parent is not None:
            self._parent.known(reply)

    def _count(self, reply: Reply) -> None:
        self._usage.prompt_tokens += reply.prompt_tokens or 0
        self._usage.completion_tokens += reply.completion_tokens or 0
        self._usage.usd += reply.usd or 0.0
        self._usage.unpriced += reply.usd is None
        self._usage.uncounted += reply.prompt_tokens is None or reply.completion_tokens is None
        self._usage.recorded += reply.recorded
        if reply.is_written:
            self._usage.written[reply.model] = self._usage.written.get(reply.model, 0) + 1
