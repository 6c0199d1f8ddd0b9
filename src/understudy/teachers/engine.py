"""The engine: one event loop in a thread of its own that sends requests and sees every reply into the ledger.

All teachers over one ledger share one engine, so that equal requests in flight are sent once. An endpoint is one place
with its limit of concurrency, which takes the jobs of all its lanes in order; a lane is one back end there. A job is
one request, and the slots, of any number of askers, that wait for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeAlias
from weakref import WeakKeyDictionary

from understudy.errors import BudgetReached, TeacherError
from understudy.teachers.budget import Budget, Spending, most_spending, priced, spending_of
from understudy.teachers.jobs import Job, Outcome, Slot
from understudy.teachers.lanes import Endpoint, Lane, given_up
from understudy.teachers.ledger import Ledger
from understudy.teachers.ledger_file import Write
from understudy.teachers.request import Backend, Refused, Reply, TryAgain, key_of
from understudy.teachers.settings import TeacherSettings

_DRAIN_S = 1.5  # how long closing waits for requests in flight: Ctrl-C must end within 2 s

_LaneKey: TypeAlias = tuple[str, str, str, float]

_ENGINES: WeakKeyDictionary[Ledger, Engine] = WeakKeyDictionary()
_ENGINES_LOCK = threading.Lock()


def enter(ledger: Ledger, settings: TeacherSettings, backend: Backend) -> tuple[Engine, Lane]:
    """The engine of this ledger and the lane of this back end, made where there are none.

    Where the lane is there already, its back end answers and ``backend`` is not started. Where another lane is at
    the endpoint, its limit of concurrency holds. Give the lane back with ``Engine.leave``.
    """
    key = (backend.endpoint, backend.identity, backend.model, settings.timeout_s)
    with _ENGINES_LOCK:
        engine = _ENGINES.get(ledger)
        lane = engine.lanes.get(key) if engine else None
        if lane is None or lane.failed:
            backend.start()
            endpoint = engine.endpoint(backend) if engine else None
            name = getattr(backend, "shown", settings.backend)
            lane = Lane(backend, name, endpoint or Endpoint(settings.concurrency))
        if engine is None:
            engine = _ENGINES[ledger] = Engine(ledger)
        engine.lanes[key] = lane
        lane.users += 1
        engine.users += 1
    return engine, lane


class Engine:
    """Owns the loop, its thread, and the jobs in flight."""

    def __init__(self, ledger: Ledger) -> None:
        self.lanes: dict[_LaneKey, Lane] = {}
        self.users = 0
        self._ledger = ledger
        self._in_flight: dict[str, Job] = {}
        self._lock = threading.Lock()  # guards _in_flight and the slots of its jobs
        self._uncommitted: list[tuple[Write, asyncio.Future[Reply]]] = []
        self._settled = asyncio.Event()  # some budget may have room again
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="understudy-engine", daemon=True)
        self._thread.start()

    # Called from the askers' threads.

    def endpoint(self, backend: Backend) -> Endpoint | None:
        """Where another back end at the same place sends its requests."""
        return next((x.endpoint for x in self.lanes.values() if x.backend.endpoint == backend.endpoint), None)

    def submit(self, lane: Lane, slots: Sequence[Slot]) -> None:
        """Answer slots from the ledger where it can, and send the others.

        A job is entered before the ledger is read and leaves after its reply is durable. So whoever comes in between
        finds one of the two, and no request is sent twice.
        """
        new = self._join_or_enter(slots)
        try:
            known = self._ledger.get_many(list(new))
        except Exception as error:
            for job in new.values():
                self._finish(job, error)
            raise
        if known:  # in an earlier run
            lane.has_answered = True
        for key, reply in known.items():
            self._finish(new.pop(key), reply)
        if new:
            self._send(lane, list(new.values()))

    def _send(self, lane: Lane, jobs: list[Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._enqueue, lane, jobs)
        except RuntimeError:  # the loop was closed by another thread
            for job in jobs:
                self._finish(job, _closed())

    def _join_or_enter(self, slots: Sequence[Slot]) -> dict[str, Job]:
        contents = [slot.request.content() for slot in slots]
        new: dict[str, Job] = {}
        with self._lock:
            for slot, content in zip(slots, contents, strict=True):
                slot.key = key_of(content)
                slot.job = self._in_flight.get(slot.key)
                if slot.job is None:
                    slot.job = self._in_flight[slot.key] = new[slot.key] = Job(slot.key, content, slot, [])
                slot.job.slots.append(slot)
        return new

    def abandon(self, slots: Iterable[Slot]) -> None:
        """The asker is gone: what nobody else waits for is not sent; what was sent still lands in the ledger."""
        with self._lock:
            for slot in slots:
                if slot.job is not None and slot in slot.job.slots:
                    slot.job.slots.remove(slot)

    def leave(self, lane: Lane) -> None:
        """Give a lane back; the last user closes it, and with the last lane the engine ends."""
        with _ENGINES_LOCK:
            lane.users -= 1
            self.users -= 1
            lane_is_free, is_free = lane.users == 0, self.users == 0
            if lane_is_free:
                self.lanes = {key: other for key, other in self.lanes.items() if other is not lane}
            if is_free and _ENGINES.get(self._ledger) is self:
                del _ENGINES[self._ledger]
        if lane_is_free:
            asyncio.run_coroutine_threadsafe(self._close(lane), self._loop).result()
        if is_free:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            for job in list(self._in_flight.values()):  # came too late for the loop
                self._finish(job, _closed())

    # Called in the loop.

    def _enqueue(self, lane: Lane, jobs: list[Job]) -> None:
        if lane.failed:
            for job in jobs:
                self._finish(job, lane.failed)
            return
        lane.endpoint.queue.extend((lane, job) for job in jobs)
        self._begin(lane.endpoint)

    def _begin(self, endpoint: Endpoint) -> None:
        """Set as many jobs to work as the endpoint has room for."""
        if not endpoint.busy:
            endpoint.overloaded_since = None
        while endpoint.queue and endpoint.busy < endpoint.concurrency:
            lane, job = endpoint.queue.popleft()
            lane.started += 1
            job.number = lane.started
            endpoint.busy += 1
            task = self._loop.create_task(self._settle(lane, job))
            lane.tasks.add(task)
            task.add_done_callback(partial(self._ended, lane))

    def _ended(self, lane: Lane, task: asyncio.Task[None]) -> None:
        lane.tasks.discard(task)
        lane.endpoint.busy -= 1
        self._begin(lane.endpoint)

    async def _settle(self, lane: Lane, job: Job) -> None:
        """Bring one job to its outcome, whatever happens."""
        reply: Reply | None = None
        outcome: Outcome
        try:
            reply = await self._answer(lane, job)
            if reply is None:
                return
            lane.has_answered, lane.endpoint.overloaded_since = True, None
            outcome = reply = await self._keep(job, reply)
        except asyncio.CancelledError:
            self._finish(job, _closed())
            raise
        except Refused as error:
            lane.endpoint.overloaded_since = None
            outcome = lane.judge(job, error)
            if outcome is not error:
                self._fail(lane, outcome)
        except BudgetReached as error:
            outcome = error
        except Exception as error:
            outcome = error
            self._fail(lane, error)
        if job.attempts:
            job.asker.call.meter.asked(job.attempts, reply)
        self._finish(job, outcome, asked=True)

    async def _answer(self, lane: Lane, job: Job) -> Reply | None:
        """Attempt until there is a reply; ``None`` when nobody waits for it any more."""
        faults = 0
        while self._is_wanted(job):
            if (pause_s := lane.endpoint.not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause_s)
                continue
            try:
                return await self._attempt(lane, job)
            except TryAgain as fault:
                faults += not fault.overloaded
                if faults > job.asker.call.retries:
                    raise given_up(fault, job.attempts) from None
                await asyncio.sleep(lane.endpoint.put_off(fault, job.attempts, lane.name, job.asker.call.say))
        return None

    async def _attempt(self, lane: Lane, job: Job) -> Reply:
        call, request = job.asker.call, job.asker.request
        most = most_spending(request.messages, call.sampling, call.price)
        await self._reserve(call.budget, most)
        job.attempts += 1
        spent = Spending(requests=1)
        try:
            reply = await lane.backend.complete(request, job.asker.example)
            reply = priced(replace(reply, attempts=job.attempts), call.price)
            if not lane.backend.costs:
                reply = replace(reply, usd=0.0)
            spent = spending_of(reply, most)
            return reply
        except TryAgain as fault:
            spent = most if fault.may_cost else spent
            raise
        except asyncio.CancelledError:
            spent = most
            raise
        finally:
            if call.budget is not None:
                call.budget.settle(most, spent)
                self._settled.set()

    async def _reserve(self, budget: Budget | None, most: Spending) -> None:
        while budget is not None and not budget.reserve(most):
            self._settled.clear()
            await self._settled.wait()

    async def _keep(self, job: Job, reply: Reply) -> Reply:
        """Wait until the reply is durable; the ledger's own, where another process was first."""
        durable: asyncio.Future[Reply] = self._loop.create_future()
        request, price = job.asker.request, job.asker.call.price
        self._uncommitted.append((Write(job.key, job.content, request.teacher, reply, price), durable))
        if len(self._uncommitted) == 1:
            self._loop.call_soon(self._commit)  # with all that came in the same turn of the loop
        return await durable

    def _commit(self) -> None:
        group, self._uncommitted = self._uncommitted, []
        durable = [future for _, future in group]
        try:
            stored = self._ledger.commit([write for write, _ in group])
        except Exception as error:
            return _resolve(durable, [], error)

        def tell(error: Exception | None) -> None:  # in the ledger's thread: wakes the loop once for a group
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                self._loop.call_soon_threadsafe(_resolve, durable, stored, error)

        self._ledger.when_durable(tell)

    def _is_wanted(self, job: Job) -> bool:
        with self._lock:
            if not job.slots:
                self._in_flight.pop(job.key, None)
            return bool(job.slots)

    def _finish(self, job: Job, outcome: Outcome, *, asked: bool = False) -> None:
        with self._lock:
            self._in_flight.pop(job.key, None)
            slots, job.slots = job.slots, []
        for slot in slots:
            if isinstance(outcome, Reply) and not (asked and slot is job.asker):
                slot.call.meter.known(outcome)
            slot.waiter.answered(slot, outcome)

    def _fail(self, lane: Lane, error: Exception) -> None:
        """The endpoint cannot be used: everything that waits for it hears of it."""
        lane.failed = lane.failed or error
        for job in lane.withdraw():
            self._finish(job, error)

    async def _close(self, lane: Lane) -> None:
        self._fail(lane, _closed())
        if lane.tasks:
            _, late = await asyncio.wait(list(lane.tasks), timeout=_DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await lane.backend.aclose()


def _resolve(durable: Sequence[asyncio.Future[Reply]], stored: Sequence[Reply], error: Exception | None) -> None:
    for place, future in enumerate(durable):
        if future.done():  # cancelled
            continue
        future.set_exception(error) if error else future.set_result(stored[place])


def _closed() -> TeacherError:
    return TeacherError("the teacher was closed before it had answered; every reply that came is in the ledger")
