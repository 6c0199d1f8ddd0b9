"""What a study would ask and cost, counted without sending anything."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from understudy.teachers.budget import most_prompt_tokens, usual_prompt_tokens
from understudy.teachers.request import Message, Request
from understudy.teachers.settings import Price


@dataclass(slots=True)
class Estimate:
    """Requests that were rendered and not sent. Tokens and usd are of those that the ledger cannot answer."""

    requests: int = 0
    in_ledger: int = 0
    prompt_tokens: int = 0  # see budget.usual_prompt_tokens
    completion_tokens: int | None = 0  # at most; None where sampling.max_tokens is not set
    usd: float | None = 0.0  # with every answer as long as it may be; None where no price or no bound is known


class Rehearsal:
    """A running Estimate and the first requests; what is counted here is counted in ``parent`` too."""

    def __init__(self, parent: Rehearsal | None = None, keep: int = 0) -> None:
        self.rendered: list[list[Message]] = []
        self.keep = parent.keep if parent else keep  # how many of the first requests
        self._estimate = Estimate()
        self._parent = parent
        self._lock = threading.Lock()

    def read(self) -> Estimate:
        """A copy of the counts so far."""
        with self._lock:
            return replace(self._estimate)

    def add(
        self, requests: Sequence[Request], unknown: Sequence[Request], longest: int | None, price: Price | None
    ) -> None:
        """Count some requests, of which the ledger cannot answer ``unknown``, with answers of ``longest`` tokens."""
        with self._lock:
            room = max(0, self.keep - len(self.rendered))
            self.rendered.extend(list(request.messages) for request in requests[:room])
            prompts = sum(usual_prompt_tokens(request.messages, request.schema) for request in unknown)
            completions = None if longest is None else longest * len(unknown)
            usd = None if completions is None else _usd(price, unknown, prompts, completions)
            sums = self._estimate
            sums.requests += len(requests)
            sums.in_ledger += len(requests) - len(unknown)
            sums.prompt_tokens += prompts
            sums.completion_tokens = _plus(sums.completion_tokens, completions)
            sums.usd = _plus(sums.usd, usd)
        if self._parent is not None:
            self._parent.add(requests, unknown, longest, price)


def _usd(price: Price | None, requests: Sequence[Request], prompts: int, completions: int) -> float | None:
    if price is None:
        return None
    if price.most_prompt_tokens and not all(
        price.holds_for(most_prompt_tokens(one.messages, one.schema)) for one in requests
    ):
        return None
    return price.usd(prompts, completions)


N = TypeVar("N", int, float)


def _plus(total: N | None, more: N | None) -> N | None:
    return None if total is None or more is None else total + more
