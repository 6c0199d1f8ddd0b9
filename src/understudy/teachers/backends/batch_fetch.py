"""Watching batches until they are over, and bringing what they answered into the ledger and to those who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

import orjson

from understudy.errors import TeacherError
from understudy.teachers.backends.batch_api import BatchApi, BatchState, Gone
from understudy.teachers.backends.batch_lines import Said
from understudy.teachers.backends.batches import Batches, OpenBatch
from understudy.teachers.backends.bills import Bills
from understudy.teachers.backends.chat import cut_at_stop
from understudy.teachers.budget import priced
from understudy.teachers.engine.lanes import given_up
from understudy.teachers.ledger import Entry, Ledger
from understudy.teachers.request import Reply, Request, TryAgain, WrongModel
from understudy.teachers.settings import Price

_GROUP = 500  # lines that are read, stored and handed on together
_FIRST_POLL_S = 1.0
_SAY_S = 60.0  # between two messages on how far a batch is
_GONE_AFTER = 8  # looks in a row, half a minute: what was just made may not be known everywhere at once
_CROWDED = "token_limit_exceeded"


@dataclass(slots=True, eq=False)
class Wait:
    """One request that somebody waits for."""

    request: Request
    reply: asyncio.Future[Reply]
    size: int  # bytes of its line
    attempts: int = 1
    batch: str | None = None  # ours, once it is in one


class Waits(dict[str, Wait]):
    """Everything that is waited for, by key.

    Args:
        retries: how often a request is sent again after a fault.
        again: sends some again.
        bills: what they cost.
    """

    def __init__(self, retries: int, again: Callable[[Mapping[str, Wait]], None], bills: Bills) -> None:
        self._retries = retries
        self._again = again
        self.bills = bills

    def of(self, batch: OpenBatch) -> dict[str, Wait]:
        """What waits for one batch."""
        return {key: wait for key, wait in self.items() if wait.batch == batch.id}

    def hand_on(self, outcomes: Mapping[str, Reply | Exception], *, are_over: bool = True) -> None:
        """Wake those who wait for these keys; what failed and cost nothing is sent again before anybody hears of it.

        To the engine a thousand such faults at once would look like an endpoint that is down.

        Args:
            are_over: otherwise nobody waits any more, and what is out stays there.
        """
        again: dict[str, Wait] = {}
        for key, outcome in outcomes.items():
            wait = self.get(key)
            if wait is not None and isinstance(outcome, TryAgain) and not outcome.may_cost:
                if wait.attempts <= self._retries:
                    wait.attempts += 1
                    again[key] = wait
                    continue
                outcome = given_up(outcome, wait.attempts)
            if are_over:
                self.bills.settle(key, outcome)
            if wait is None:
                continue
            del self[key]
            if isinstance(outcome, Reply):
                wait.reply.set_result(outcome)
            else:
                wait.reply.set_exception(copy(outcome))  # each is raised on its own
                wait.reply.exception()  # heard, even where nobody waits any more
        if again:
            self.bills.move(again, out=False)
            self._again(again)


class Crowded(Exception):
    """Too much waits at the provider, so that it took nothing of a batch: that passes when other batches end.

    Args:
        size: how many requests the batch had.
    """

    def __init__(self, why: str, size: int) -> None:
        super().__init__(why)
        self.size = size


class Fetcher:
    """Follows batches at one endpoint."""

    def __init__(self, api: BatchApi, table: Batches, ledger: Ledger, waits: Waits, price: Price | None) -> None:
        self._api = api
        self._table = table
        self._ledger = ledger
        self._waits = waits
        self._price = price
        self.reading = 0
        """How many batches are being fetched now."""

    async def follow(self, batch: OpenBatch, batch_id: str) -> None:
        """Look at a batch until it is over, hand on what it brought, and forget it.

        Raises:
            Crowded: it was not taken; those who wait for it do so still.
            TeacherError: it cannot be looked at or read; it is not forgotten.
        """
        pause_s, gone, was_alive = min(_FIRST_POLL_S, self._api.poll_s), 0, False
        told, told_at = "", 0.0
        while True:
            try:
                state = await self._api.patiently(partial(self._api.look, batch_id))
                if state.is_over or state.status != told or time.monotonic() - told_at > _SAY_S:
                    told, told_at = state.status, time.monotonic()
                    self._api.say(f"{batch_id}: {state.status}, {state.done} of {state.total} requests done")
                if state.is_over:
                    return await self._fetch(batch, state, was_alive)
                if batch.missed:
                    await asyncio.to_thread(self._table.miss, batch.id, is_missed=False)
                    batch = replace(batch, missed=False)
                was_alive, gone = True, 0
            except Gone as error:
                gone += 1
                if gone == _GONE_AFTER:
                    return await self._miss(batch, error)
            await asyncio.sleep(pause_s)
            pause_s = min(self._api.poll_s, pause_s * 1.5)

    async def _miss(self, batch: OpenBatch, error: Gone) -> None:
        if batch.missed:  # an earlier run has said so
            return await self._end(batch, TryAgain("connection_lost", f"{batch.batch_id} is gone"))
        await asyncio.to_thread(self._table.miss, batch.id)
        raise TeacherError(
            f"{self._api.shown} does not know {batch.batch_id}, or a file of it, at least not with this key ({error}), "
            "so that its answers may be lost; set the key that it was made with, or run the same command to pay for "
            "them again"
        )

    async def _fetch(self, batch: OpenBatch, state: BatchState, was_alive: bool) -> None:
        files = [name for name in (state.output_file_id, state.error_file_id) if name]
        if state.status == "completed" and not files:
            raise Gone("it is completed and names no file of answers")
        wrong: dict[str, WrongModel] = {}
        self.reading += 1
        try:
            for file_id in files:
                wrong |= await self._api.patiently(partial(self._read, batch, file_id))
        finally:
            self.reading -= 1
        if any(code == _CROWDED for code, _ in state.errors):
            dropped = await asyncio.to_thread(self._table.drop, batch.id)  # by another process, where it is empty
            self._waits.bills.drop(dropped, self._waits)
            raise Crowded(state.errors[0][1], max(len(dropped), state.total, len(self._waits.of(batch))))
        if wrong and not batch.missed:
            await asyncio.to_thread(self._table.miss, batch.id)
            raise TeacherError(
                f"{next(iter(wrong.values()))}; so {len(wrong)} answers of {batch.batch_id} are none: what else it "
                "brought is kept, and the same command pays for these again"
            )
        if wrong:
            again = {key: TryAgain("wrong_model", str(fault), may_cost=True) for key, fault in wrong.items()}
            await asyncio.to_thread(self._table.done, batch.id, again)
            self._waits.hand_on(again)
        await self._end(batch, self._why_unanswered(state, was_alive))

    async def _read(self, batch: OpenBatch, file_id: str) -> dict[str, WrongModel]:
        """Store what a file holds; the answers of another model, which are none, stay open."""
        group: list[bytes] = []
        wrong: dict[str, WrongModel] = {}
        count = understood = 0

        async def store() -> None:
            nonlocal understood
            said = self._said(batch, group)
            understood += len(said)
            wrong.update({key: one for key, one in said.items() if isinstance(one, WrongModel)})
            await self._store(batch, {key: one for key, one in said.items() if not isinstance(one, WrongModel)})
            group.clear()

        async with aclosing(self._api.lines(file_id)) as lines:
            async for line in lines:
                group.append(line)
                count += 1
                if len(group) == _GROUP:
                    await store()
        await store()
        if count and not understood:  # to ask again would pay again
            raise TeacherError(
                f"the answers of {batch.batch_id} at {self._api.shown} are in a form that is not known here; take "
                "backend: openai there"
            )
        return wrong

    def _said(self, batch: OpenBatch, lines: Sequence[bytes]) -> dict[str, Said]:
        """What lines say, by key. One that cannot be read is as good as none."""
        latency_s = time.time() - batch.created
        return dict(one for line in lines if (one := self._api.read(line, latency_s)) is not None)

    async def _store(self, batch: OpenBatch, said: Mapping[str, Said]) -> None:
        """Bring replies into the ledger, then forget their requests, then hand them on."""
        outcomes = {key: outcome for key, outcome in said.items() if outcome is not None}
        requests = await self._requests(batch, outcomes)
        entries = [
            Entry(key, requests[key], self._settled(reply, requests[key]), self._price, time.time())
            for key, reply in outcomes.items()
            if isinstance(reply, Reply) and key in requests
        ]
        await asyncio.to_thread(self._ledger.add, entries)
        stored = await asyncio.to_thread(self._ledger.get_many, [entry.key for entry in entries])
        await asyncio.to_thread(self._table.done, batch.id, outcomes)
        self._waits.hand_on({**outcomes, **stored})

    def _settled(self, reply: Reply, request: Request) -> Reply:
        return priced([cut_at_stop(reply, request)], self._price)[0]

    async def _requests(self, batch: OpenBatch, keys: Mapping[str, object]) -> dict[str, Request]:
        """What was asked; nothing where nobody waits and another process has fetched the same batch."""
        asked = {key: self._waits[key].request for key in keys if key in self._waits}
        others = [key for key in keys if key not in asked]
        contents = await asyncio.to_thread(self._table.contents, batch.id, others)
        return asked | {key: Request(**orjson.loads(content)) for key, content in contents.items()}

    def _why_unanswered(self, state: BatchState, was_alive: bool) -> Exception:
        """What becomes of the requests that a batch had no line for."""
        if state.status == "failed":
            some = "; ".join(dict.fromkeys(message for _, message in state.errors[:3])) or "it does not say why"
            return TeacherError(
                f"{self._api.shown} refuses all of {state.batch_id}: {some}; check teacher.model and teacher.sampling"
            )
        if state.status == "cancelled" and was_alive:  # somebody means it
            return TeacherError(
                f"{state.batch_id} was cancelled at {self._api.shown}; what it had answered is kept: run the same "
                "command to ask for the rest"
            )
        return TryAgain("timed_out", f"{state.batch_id} is {state.status} without an answer")

    async def _end(self, batch: OpenBatch, rest: Exception) -> None:
        """Forget a batch; who waits for it still gets the ledger's reply, or ``rest``."""
        dropped = await asyncio.to_thread(self._table.drop, batch.id)
        known = await asyncio.to_thread(self._ledger.get_many, [*dropped, *self._waits.of(batch)])  # by another process
        gone = {key for key in dropped if key in self._waits and self._waits[key].batch not in (None, batch.id)}
        left = (key for key in [*dropped, *self._waits.of(batch)] if key not in gone)  # gone into a newer batch
        self._waits.hand_on({**dict.fromkeys(left, rest), **known})
