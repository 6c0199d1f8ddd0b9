"""The budget: a wall that no request may pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from uuid import uuid4

import orjson

from understudy.errors import BudgetReached, SettingsError
from understudy.teachers.request import Message, Reply, Request
from understudy.teachers.settings import Price, Sampling


@dataclass(frozen=True, slots=True)
class Spending:
    """An amount of teacher work."""

    usd: float = 0.0
    tokens: int = 0  # of prompts and completions
    requests: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.usd + other.usd, self.tokens + other.tokens, self.requests + other.requests)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.usd - other.usd, self.tokens - other.tokens, self.requests - other.requests)


NOTHING = Spending()


class Budget:
    """What a study may spend, and what it has spent; one is shared by all of a study's teachers.

    Every attempt reserves the most that it can cost before it is sent and is settled with what it did cost.

    Args:
        usd, tokens, requests: the limits; ``None`` is no limit. Attempts count as requests.
        spent: what earlier runs of the study spent.
        note: called whenever it changes with the most that can have been spent, requests in flight at their upper
            bound; written down there, it keeps the wall standing after a kill. It holds up the engine while it
            works. What it raises before a request is sent ends the run; an OSError after a reply came is let go.
        payer: a name of whose money it is, the same in a later run that is told what this one spent: that run then
            knows what of it was counted for a batch that is not answered yet.
    """

    def __init__(
        self,
        usd: float | None = None,
        tokens: int | None = None,
        requests: int | None = None,
        *,
        spent: Spending = NOTHING,
        note: Callable[[Spending], None] = lambda most: None,
        payer: str | None = None,
    ) -> None:
        self._note = note
        self.payer = payer or uuid4().hex
        self.usd, self.tokens, self.requests = usd, tokens, requests
        self._spent = spent
        self._reserved = Spending()
        self._taken_up: set[str] = set()
        self._reached: BudgetReached | None = None
        self._lock = threading.Lock()

    @property
    def spent(self) -> Spending:
        """What has been spent so far, requests in flight left out."""
        return self._spent

    def tell(self) -> str:
        """What is spent of what, for a person; nothing where there is no limit."""
        spent = self._spent
        parts = {
            "usd": f"${spent.usd:,.2f} of ${self.usd or 0:,.2f}",
            **{
                name: f"{getattr(spent, name):,} of {getattr(self, name) or 0:,} {name}"
                for name in ("tokens", "requests")
            },
        }
        return ", ".join(text for name, text in parts.items() if getattr(self, name) is not None)

    def reserve(self, most: Spending) -> bool:
        """Set ``most`` aside; ``False`` if that has to wait until requests in flight are settled.

        Raises:
            BudgetReached: it does not fit any more, and so nothing that comes later is let through.
            OSError: and whatever else ``note`` raises; nothing was reserved.
        """
        with self._lock:
            if self._reached:
                raise self._reached
            if wall := self._passed_by(self._spent + most):
                self._reached = BudgetReached(self._message(wall, most))
                raise self._reached
            if self._passed_by(self._spent + self._reserved + most):
                return False
            self._note(self._spent + self._reserved + most)  # first this: what raises here has reserved nothing
            self._reserved += most
            return True

    def fits(self, most: Spending) -> bool:
        """Whether a request that can cost so much is this side of the wall, were nothing in flight."""
        with self._lock:
            return self._passed_by(self._spent + most) is None

    def take_up(self, name: str) -> bool:
        """Whether something that an earlier run left is taken up for the first time, so that one alone settles it."""
        with self._lock:
            is_new = name not in self._taken_up
            self._taken_up.add(name)
            return is_new

    def let_go(self, name: str) -> None:
        """It was settled, or is left to be taken up again."""
        with self._lock:
            self._taken_up.discard(name)

    def settle(self, most: Spending, spent: Spending) -> None:
        """Give a reservation back and count what it came to."""
        with self._lock:
            self._reserved -= most
            self._spent += spent
            with suppress(OSError):  # it must not cost the reply; what was noted before is a bound still
                self._note(self._spent + self._reserved)

    def check(self, price: Price | None, sampling: Sampling, where: str) -> None:
        """See to it that an upper bound can be worked out for every request of a teacher.

        Raises:
            SettingsError: a limit in money without a price, or a limit in money or tokens without ``max_tokens``.
        """
        if self.usd is not None and price is None:
            raise SettingsError(f"{where}.price: budget.usd needs the price, e.g. price: {{input: 0.15, output: 0.60}}")
        if (self.usd, self.tokens) != (None, None) and sampling.longest_answer is None:
            raise SettingsError(f"{where}.sampling.max_tokens: a budget in usd or tokens needs the longest answer")

    def check_prompts(self, price: Price | None, requests: Iterable[Request], where: str) -> None:
        """See to it that what prompts can cost is known.

        Raises:
            SettingsError: there is a limit in money, and one of them may be longer than the price is known for.
        """
        if self.usd is None or price is None or price.most_prompt_tokens is None:
            return
        longest = max((most_prompt_tokens(one.messages, one.schema) for one in requests), default=0)
        if not price.holds_for(longest):
            raise SettingsError(
                f"{where}.price: budget.usd needs the price of a prompt of up to {longest:,} tokens, and the one that "
                f"is known ({price.input:g} and {price.output:g} usd) is that of at most {price.most_prompt_tokens:,}; "
                "set what long prompts cost, or leave such rows out"
            )

    def _passed_by(self, total: Spending) -> str | None:
        for name in ("usd", "tokens", "requests"):
            limit = getattr(self, name)
            if limit is not None and getattr(total, name) > limit * (1 + 1e-12):  # sums of cents are not exact
                return name
        return None

    def _message(self, wall: str, most: Spending) -> str:
        spent, limit, more = (getattr(x, wall) for x in (self._spent, self, most))
        return (
            f"budget.{wall}: {spent:.6g} of {limit:.6g} is spent and the next request could take {more:.6g}; "
            f"every reply is kept: raise budget.{wall} and run the same command to go on"
        )


def most_prompt_tokens(messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> int:
    """A bound that no prompt passes: a token holds at least one byte; the rest is for the chat template."""
    return 64 + sum(16 + len(m["content"].encode()) for m in messages) + _bytes_of(schema)


def usual_prompt_tokens(messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> int:
    """An estimate for people: 4 bytes a token, 4 tokens a message. Within a third for English and most tokenizers."""
    return sum(4 + -(-len(m["content"].encode()) // 4) for m in messages) + -(-_bytes_of(schema) // 4)


def _bytes_of(schema: Mapping[str, Any] | None) -> int:
    """What a form adds to a prompt: as a schema, or in words where the endpoint knows no schemas."""
    return _bytes_of_form(orjson.dumps(schema)) if schema is not None else 0


@lru_cache(maxsize=64)
def _bytes_of_form(schema: bytes) -> int:
    from understudy.teachers.structured import in_blocks, response_format

    form = orjson.loads(schema)
    in_words = sum(len(message["content"].encode()) for message in in_blocks([], form))
    return max(len(orjson.dumps(response_format(form))), in_words)


def most_spending(request: Request, sampling: Sampling, price: Price | None, n: int = 1) -> Spending:
    """The most that one attempt at ``n`` samples can cost; no money where the price is not known."""
    prompt = most_prompt_tokens(request.messages, request.schema)
    completion = n * (sampling.longest_answer or 0)
    usd = price.usd(prompt, completion) if price and price.holds_for(prompt) else 0.0
    return Spending(usd, prompt + completion, 1)


def priced(replies: Sequence[Reply], price: Price | None) -> list[Reply]:
    """The replies of one attempt with what they cost, where that can be worked out."""
    if price is None or not price.holds_for(sum(reply.prompt_tokens or 0 for reply in replies)):
        return list(replies)
    return [
        reply
        if reply.usd is not None or reply.prompt_tokens is None or reply.completion_tokens is None
        else replace(reply, usd=price.usd(reply.prompt_tokens, reply.completion_tokens))
        for reply in replies
    ]


def spending_of(replies: Sequence[Reply], most: Spending) -> Spending:
    """What an attempt came to; where the teacher does not say, the most that it can have been."""
    usd, tokens = 0.0, 0
    for reply in replies:
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return most
        usd, tokens = usd + (reply.usd or 0.0), tokens + reply.prompt_tokens + reply.completion_tokens
    return Spending(usd, tokens, 1)
