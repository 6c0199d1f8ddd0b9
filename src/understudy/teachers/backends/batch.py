"""Batches at an endpoint with OpenAI's batch API: a file of requests, answered within a day at half the price.

Requests that come together leave as one file. What is sent is durable before it leaves (``batches``), so a run that
is stopped or killed loses nothing: the next one waits for the same batches, and what they hold that nobody asks for
any more lands in the ledger all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO
from uuid import uuid4

import orjson
from filelock import FileLock, Timeout

from understudy.errors import TeacherError
from understudy.records import Example
from understudy.teachers.backends.address import Address
from understudy.teachers.backends.batch_api import BatchApi, BatchState, Gone
from understudy.teachers.backends.batch_fetch import Crowded, Fetcher, Wait, Waits
from understudy.teachers.backends.batch_lines import line_of
from understudy.teachers.backends.batches import Batches, OpenBatch
from understudy.teachers.backends.bills import Bills
from understudy.teachers.budget import Budget, Spending
from understudy.teachers.engine.jobs import Say
from understudy.teachers.ledger import Ledger
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import Price, TeacherSettings


class Batch:
    """One endpoint. ``complete`` waits until the request was sent with many others and its batch is over.

    A request that its batch left unanswered is put into the next one, up to ``retries`` times.
    """

    costs = True
    quiet_s = 2.0
    """How long nothing may have come before a file is sent."""
    most_requests = 50_000
    """Most requests in one file: OpenAI's limit, and that of those who copy it."""
    most_bytes = 100_000_000
    """Largest file; OpenAI takes 200 MB, some only half of that."""

    def __init__(self, settings: TeacherSettings) -> None:
        assert settings.model is not None  # TeacherSettings sees to it
        self.model = settings.model
        self.identity = settings.name or settings.model
        self.price: Price | None = settings.price
        """What a reply costs; it is in the ledger, with its price, before ``complete`` returns."""
        self.say: Say = lambda text: None
        """Told what was sent and how far it is."""
        self._address = Address(settings)
        self.endpoint = f"batch {self._address.endpoint}"
        self.shown = self._address.shown
        self._api = BatchApi(settings, self._address, lambda text: self.say(text))
        self._place = orjson.dumps([self.shown, self.identity, self.model]).decode()
        self._bills = Bills(self._place)
        self._waits = Waits(settings.retries, self._enqueue, self._bills)
        self._pending: dict[str, Wait] = {}  # those that are in no batch yet, in order
        self._last_came = 0.0  # monotonic seconds
        self._most_now = self.most_requests  # less after the provider took no more
        self._is_crowded = False
        self._sender: asyncio.Task[None] | None = None
        self._watchers: dict[str, asyncio.Task[None]] = {}  # one an open batch
        self._looks: dict[str, asyncio.Task[None]] = {}  # for what earlier runs left, one a payer
        self._failed: Exception | None = None

    def attach(self, ledger: Ledger) -> None:
        """Keep what is sent in this ledger's file."""
        self._ledger = ledger

    def start(self) -> None:
        """See that there is a key, and open the table of batches.

        Raises:
            SettingsError: there is none, and the endpoint is not on this machine or network.
            WorkspaceError, OutOfSpace: the ledger's file cannot be written.
        """
        self._address.check_key()
        self._table = Batches(self._ledger.path)
        self._fetcher = Fetcher(self._api, self._table, self._ledger, self._waits, self.price)

    def reserve(self, key: str, budget: Budget, most: Spending, price: Price | None) -> bool:
        """Set aside what a request can cost until it is answered, in whichever run; as ``Budget.reserve``.

        What an earlier run has left comes first: it may make room.
        """
        if self._failed is not None:
            raise self._failed
        if budget.payer not in self._looks:
            self._looks[budget.payer] = asyncio.create_task(self._guarded(partial(self._look_for_left, budget, price)))
        if not self._looks[budget.payer].done():
            return False
        if self._watchers and not budget.fits(most) and self._bills.are_left(budget):
            return False
        return self._bills.reserve(key, budget, most, price)

    async def _look_for_left(self, budget: Budget, price: Price | None) -> None:
        left = await asyncio.to_thread(self._table.bills, self._place, budget.payer)
        if left:
            self._bills.take_up(budget, price, left)
            still = await asyncio.to_thread(self._table.bills, self._place, budget.payer)
            self._bills.forget(left.keys() - still.keys())  # which another lane settled while we looked
            async with self._alone():
                await self._recover()
            await self._watch_open()

    async def complete(self, request: Request, example: Example) -> Reply:
        """Send one request with others, or wait for the batch that it is in already."""
        key = request.key
        wait = self._waits.get(key)
        if wait is None:
            reply = asyncio.get_running_loop().create_future()
            wait = self._waits[key] = Wait(request, reply, len(line_of(key, request)))
            self._enqueue({key: wait})
        return await asyncio.shield(wait.reply)

    async def aclose(self) -> None:
        """Stop looking. What was sent stays where it is, for the next run."""
        tasks = [task for task in (self._sender, *self._watchers.values(), *self._looks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail(TeacherError("the teacher was closed before it had answered; run the same command to go on"))
        self._bills.close()
        try:
            left = len(self._table.open(self._place))
        finally:
            self._table.close()
            await self._api.aclose()
        if left:
            self.say(f"{left} batches of this ledger stay at {self.shown}; run the same command to fetch their answers")

    def _enqueue(self, waits: Mapping[str, Wait]) -> None:
        for wait in waits.values():
            wait.batch = None
        self._pending.update(waits)
        self._last_came = time.monotonic()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._guarded(self._send_all))

    async def _send_all(self) -> None:
        await self._watch_open()
        while self._pending:
            await self._until_quiet()
            while self._is_crowded and self._watchers:
                await asyncio.wait(self._watchers.values(), return_when=asyncio.FIRST_COMPLETED)
                self._is_crowded = False
            async with self._alone():
                await self._recover()
                await self._send(self._take())
            await self._watch_open()

    async def _until_quiet(self) -> None:
        while len(self._pending) < self._most_now and sum(x.size for x in self._pending.values()) < self.most_bytes:
            if self._fetcher.reading:  # what is answered makes room for more
                self._last_came = time.monotonic()
            left_s = self._last_came + self.quiet_s - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(left_s)

    def _take(self) -> dict[str, Wait]:
        """What fits into one file, and one request if it alone is too large."""
        group: dict[str, Wait] = {}
        size = 0
        self._pending = {key: wait for key, wait in self._pending.items() if not wait.reply.done()}  # by an older batch
        for key, wait in self._pending.items():
            size += wait.size
            if group and (len(group) == self._most_now or size > self.most_bytes):
                break
            group[key] = wait
        for key in group:
            del self._pending[key]
        return group

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """While no other process sends: then a batch without the provider's id is one whose run is dead."""
        lock = FileLock(f"{self._ledger.path}.sending")
        while True:
            try:
                lock.acquire(blocking=False)
                break
            except Timeout:
                await asyncio.sleep(0.2)
        try:
            yield
        finally:
            lock.release()

    async def _recover(self) -> None:
        """Find batches whose run died before it noted the provider's id; forget what was never made."""
        for batch in await asyncio.to_thread(self._table.open, self._place):
            if batch.batch_id is not None:
                continue
            made = await self._api.patiently(partial(self._api.find, batch.id, batch.file_id, batch.created))
            if made is None:
                self._bills.drop(await asyncio.to_thread(self._table.drop, batch.id), self._waits)
            else:
                await asyncio.to_thread(self._table.made, batch.id, made.batch_id)

    async def _send(self, group: dict[str, Wait]) -> None:
        """Send what is neither in an open batch nor, by now, in the ledger."""
        ours = uuid4().hex
        requests = [(key, wait.request.content(), self._bills.told(key)) for key, wait in group.items()]
        were_out = self._bills.out(group)
        self._bills.move(group, out=True)  # first: whoever is stopped meanwhile counts too much and not too little
        try:
            mine = await asyncio.to_thread(self._table.claim, self._place, ours, requests)
        except Exception:
            self._bills.move(group.keys() - were_out, out=False)
            raise
        self._bills.move(mine, out=True)
        self._bills.move(group.keys() - mine - were_out, out=False)
        for key in mine:
            group[key].batch = ours
        # the ledger after the claim: a request leaves the table only when its reply is there
        known = await asyncio.to_thread(self._ledger.get_many, list(group))
        self._bills.move(known.keys() - were_out, out=False)
        self._waits.hand_on(known)
        over = known.keys() | {key for key in mine if group[key].reply.done()}  # by an older batch
        others = [key for key in group if key not in mine and key not in over]
        holders = await asyncio.to_thread(self._table.holders, self._place, others)
        for key in others:
            group[key].batch = holders.get(key, ours)
        if refused := {key: group[key] for key in others if key not in holders}:  # by another process just now
            self._enqueue(refused)
        if mine <= over:
            await asyncio.to_thread(self._table.drop, ours)
        else:
            await asyncio.to_thread(self._table.done, ours, mine & over)
            await self._make(ours, len(mine - over))

    async def _make(self, ours: str, count: int) -> None:
        try:
            with TemporaryFile(dir=self._ledger.path.parent) as file:
                size = await asyncio.to_thread(self._write, file, ours)
                file_id = await self._api.patiently(partial(self._api.upload, file, size))
            await asyncio.to_thread(self._table.uploaded, ours, file_id)
            state = await self._create(ours, file_id)
        except Gone as error:
            raise TeacherError(f"{self.shown} has no batch API ({error}); take backend: openai there") from None
        await asyncio.to_thread(self._table.made, ours, state.batch_id)
        self.say(f"sent {count} requests as {state.batch_id} to {self.shown}, which answers within a day")

    def _write(self, file: IO[bytes], ours: str) -> int:
        for key, content in self._table.requests(ours):
            file.write(line_of(key, Request(**orjson.loads(content))))
        file.flush()
        return file.tell()

    async def _create(self, ours: str, file_id: str) -> BatchState:
        began, may_be_made = time.time(), False

        async def once() -> BatchState:
            nonlocal may_be_made
            found = await self._api.find(ours, file_id, began) if may_be_made else None
            may_be_made = True
            return found or await self._api.create(file_id, ours)

        return await self._api.patiently(once)

    async def _watch_open(self) -> None:
        there = await asyncio.to_thread(self._table.open, self._place)
        for batch in there:
            if batch.batch_id is not None and batch.id not in self._watchers:
                task = asyncio.create_task(self._guarded(partial(self._watch, batch, batch.batch_id)))
                self._watchers[batch.id] = task
        known = {batch.id for batch in there} | self._watchers.keys()
        # what was just done with when we were told that it holds a request
        if late := {key: wait for key, wait in self._waits.items() if wait.batch and wait.batch not in known}:
            self._enqueue(late)

    async def _watch(self, batch: OpenBatch, batch_id: str) -> None:
        try:
            await self._fetcher.follow(batch, batch_id)
            self._most_now = min(self.most_requests, 2 * self._most_now)
        except Crowded as crowded:
            self._send_later(self._waits.of(batch), crowded, are_others=len(self._watchers) > 1)
        finally:
            del self._watchers[batch.id]

    def _send_later(self, waits: Mapping[str, Wait], crowded: Crowded, *, are_others: bool) -> None:
        """Send a batch again that the provider had no room for: after another one ends, or else in halves."""
        if not are_others and crowded.size == 1:
            raise TeacherError(f"{self.shown} takes not even one request now ({crowded}); run the same command later")
        if not waits:
            return
        if are_others:
            self._is_crowded = True
        else:
            self._most_now = crowded.size // 2
        self.say(f"{self.shown} takes no more for now ({crowded}); sending {'later' if are_others else 'less at once'}")
        self._enqueue(waits)

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whatever goes wrong, those who wait must hear of it."""
        try:
            await work()
        except Exception as error:
            self._failed = error
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._pending.clear()
        self._waits.hand_on(dict.fromkeys(list(self._waits), error), are_over=False)
