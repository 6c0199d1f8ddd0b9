"""The engine: one event loop in a thread of its own that sends requests and sees every reply into the ledger.

All teachers over one ledger share one engine, so that equal requests in flight are sent once. An endpoint is one model
at one place with its pace, which takes the jobs of all its lanes in order; a lane is one back end there. A job is one
request, and the slots, of any number of askers, that wait for it. A task is one attempt at a job: it holds its place
among the requests in flight until its reply is durable.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from typing import TypeAlias
from weakref import WeakKeyDictionary

from understudy.errors import BudgetReached, TeacherError
from understudy.teachers.backends.offline import Offline
from understudy.teachers.engine.desk import Desk
from understudy.teachers.engine.jobs import Job, Outcome, Say, Slot
from understudy.teachers.engine.keeper import Keeper
from understudy.teachers.engine.lanes import Endpoint, Lane, given_up
from understudy.teachers.engine.leases import Leases
from understudy.teachers.engine.pace import Pace
from understudy.teachers.engine.sender import Sender, usual_tokens
from understudy.teachers.ledger import Ledger
from understudy.teachers.ledger_file import BUSY_S
from understudy.teachers.request import PASSING, Backend, Refused, TryAgain
from understudy.teachers.settings import TeacherSettings

_DRAIN_S = 1.5  # how long closing waits for requests in flight where somebody is in a hurry: Ctrl-C ends within 2 s
_FROZEN = 2  # times ``timeout_s``: a process that still has a request in flight then is no longer at work
_FLUSH_S = 0.3  # how long closing waits then for another process that writes
_BURST = 64  # jobs begun in one turn of the loop: what is sent at once comes back at once, and waits for itself
_TELL_S = 0.01  # how long finished rows gather before their askers are told
_LOOK_S = 0.1  # how often is looked at what other processes do, and whether a budget has room again

_LaneKey: TypeAlias = tuple[str, str, str, float]

_ENGINES: WeakKeyDictionary[Ledger, Engine] = WeakKeyDictionary()
_ENGINES_LOCK = threading.Lock()


def enter(ledger: Ledger, settings: TeacherSettings, backend: Backend, say: Say) -> tuple[Engine, Lane]:
    """The engine of this ledger and the lane of this back end, made where there are none.

    Where the lane is there already, its back end answers and ``backend`` is not started. Where another lane is at
    the endpoint, its pace holds. Give the lane back with ``Engine.leave``.
    """
    key = (backend.endpoint, backend.identity, backend.model, settings.timeout_s)
    with _ENGINES_LOCK:
        engine = _ENGINES.get(ledger)
        lane = engine.lanes.get(key) if engine else None
        if lane is None or lane.failed:
            if attach := getattr(backend, "attach", None):
                attach(ledger)
            backend.start()
            endpoint = engine.endpoint(backend) if engine else None
            endpoint = endpoint or Endpoint(_pace(settings, backend))
            if hasattr(backend, "hold"):
                backend.hold = endpoint.pace.hold  # pyright: ignore[reportAttributeAccessIssue]
            if hasattr(backend, "say"):
                backend.say = say  # pyright: ignore[reportAttributeAccessIssue]
            lane = Lane(
                backend, endpoint, settings.max_failures, takes_n=None if hasattr(backend, "samples") else False
            )
            lane.keeps_refusals = settings.backend != "recorded" and not isinstance(backend, Offline)
        if engine is None:
            engine = _ENGINES[ledger] = Engine(ledger)
        engine.lanes[key] = lane
        lane.users += 1
        engine.users += 1
    return engine, lane


class Engine:
    """Owns the loop, its thread, and the jobs under way."""

    def __init__(self, ledger: Ledger) -> None:
        self.lanes: dict[_LaneKey, Lane] = {}
        self.users = 0
        self._ledger = ledger
        self._leases = Leases(ledger.path)
        self._desk = Desk()
        self._finished: list[Slot] = []  # who waits for them is not told yet
        self._is_telling = False
        self._closing: list[Lane] = []  # their last requests are waited for
        self._elsewhere: dict[Job, Lane] = {}  # another process has these in flight
        self._loop = _new_loop()
        self._sender = Sender(Keeper(ledger, self._loop))
        self._loop.call_later(_LOOK_S, self._let_in)
        self._thread = threading.Thread(target=self._loop.run_forever, name="understudy-engine", daemon=True)
        self._thread.start()

    # Called from the askers' threads.

    def endpoint(self, backend: Backend) -> Endpoint | None:
        """Where another back end at the same place sends its requests."""
        lanes = [*self.lanes.values(), *self._closing]
        return next((x.endpoint for x in lanes if x.backend.endpoint == backend.endpoint), None)

    def submit(self, lane: Lane, slots: Sequence[Slot]) -> None:
        """Answer slots from the ledger where it can, and send the others.

        A job is entered before the ledger is read and leaves after its reply is durable. So whoever comes in between
        finds one of the two, and no request is sent twice.
        """
        for slot in slots:
            slot.lane = lane
        new: dict[str, Job] = {}
        try:
            self._desk.enter(slots, new)
            self._answer(self._known(lane, new))
            if new:
                self._send(lane, list(new.values()))
        except BaseException as error:  # Ctrl-C too: nobody may wait for a job that is not under way
            self._answer([(job, error if isinstance(error, Exception) else _closed()) for job in new.values()])
            raise

    def _known(self, lane: Lane, new: dict[str, Job]) -> list[tuple[Job, Outcome]]:
        """Take out of the new jobs those that the ledger has a reply to, while it has some."""
        if not lane.is_known:  # what the ledger has all the same is found before it is sent
            return []
        known = self._ledger.get_many(list(new))
        lane.is_known = bool(known)
        if known:
            self._see_durable()
            self._count_known(lane, len(known))
        return [(new.pop(key), reply) for key, reply in known.items()]

    def _count_known(self, lane: Lane, jobs: int) -> None:
        """The ledger had some replies, of an earlier run or another process."""
        lane.has_answered = lane.is_known = True
        lane.count_answers(jobs)

    def _see_durable(self) -> None:
        """What the ledger had may be another process's, committed and not yet durable."""
        if not self._leases.is_alone:
            self._ledger.sync()

    def _send(self, lane: Lane, jobs: list[Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._enqueue, lane, jobs)
        except RuntimeError:  # the loop was closed by another thread
            self._answer((job, _closed()) for job in jobs)

    def _answer(self, outcomes: Iterable[tuple[Job, Outcome]]) -> None:
        for job, outcome in outcomes:
            for slot in self._desk.settle(job, outcome):
                slot.waiter.answered(slot)

    def abandon(self, slots: Iterable[Slot]) -> None:
        """The asker is gone: what nobody else waits for is not sent; what was sent still lands in the ledger."""
        self._desk.leave(slots)

    def leave(self, lane: Lane, *, hurry: bool = False) -> None:
        """Give a lane back; the last user closes it, and with the last lane the engine ends.

        Args:
            hurry: wait only shortly for what is in flight, though it is paid for.
        """
        with _ENGINES_LOCK:
            lane.users -= 1
            lane_is_free = lane.users == 0
            if lane_is_free:
                self.lanes = {key: other for key, other in self.lanes.items() if other is not lane}
                self._closing.append(lane)
        failed: BaseException | None = None
        if lane_is_free:
            closing = asyncio.run_coroutine_threadsafe(self._close(lane, hurry), self._loop)
            try:
                closing.result()
            except KeyboardInterrupt as error:
                failed = error
                self.hurry(lane)
                wait([closing])
            except Exception as error:
                failed = error
            self._closing.remove(lane)
        with _ENGINES_LOCK:  # only now: until then this lane needs the loop
            self.users -= 1
            is_free = self.users == 0
            if is_free and _ENGINES.get(self._ledger) is self:
                del _ENGINES[self._ledger]
        if is_free:
            self._end_loop()
        if failed:
            raise failed

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._leases.close()
        self._tell()  # what finished after the last lane was closed
        self._answer((job, _closed()) for job in self._desk.under_way())  # came too late for the loop

    def hurry(self, lane: Lane) -> None:
        """Wait for no request in flight any more; what it would have brought is lost."""

        def cancel() -> None:
            if lane.users == 0:  # nobody else's
                lane.is_hurried = True
                for task in lane.tasks.values():
                    task.cancel()

        with suppress(RuntimeError):  # the loop is closed: nothing is in flight
            self._loop.call_soon_threadsafe(cancel)

    # Called in the loop: what is sent.

    def _enqueue(self, lane: Lane, jobs: Sequence[Job], *, first: bool = False) -> None:
        if lane.failed:
            for job in jobs:
                self._finish(job, lane.failed)
            return
        queue = lane.endpoint.queue
        if first:
            queue.extendleft((lane, job) for job in reversed(jobs))
        else:
            queue.extend((lane, job) for job in (jobs if lane.takes_n is False else _grouped(jobs)))
        self._wake(lane.endpoint)

    def _wake(self, endpoint: Endpoint) -> None:
        """Look at the endpoint at the end of this turn of the loop: once, however many things happen in it."""
        if not endpoint.is_woken:
            endpoint.is_woken = True
            self._loop.call_soon(self._begin, endpoint)

    def _begin(self, endpoint: Endpoint) -> None:
        """Set as many jobs to work as the pace allows, of those that nobody else has answered or is about to."""
        endpoint.is_woken = is_more = False
        begun: list[tuple[Lane, Job]] = []
        while endpoint.queue and endpoint.pace.has_room():
            if is_more := len(begun) == _BURST:
                break
            if wait_s := endpoint.pace.wait_s():
                endpoint.look_again(self._loop.call_later(wait_s, self._wake, endpoint))
                break
            lane, job = endpoint.next()
            if lane.is_trial(job) and (begun or lane.is_trying()):
                endpoint.queue.appendleft((lane, job))
                is_more = bool(begun)
                break
            if job.others and lane.takes_n is False:  # found out since it came into the queue
                self._enqueue(lane, _single(job), first=True)
                continue
            if (wanted := _as_one(self._desk.wanted(job.all))) and self._is_free(lane, wanted):
                wanted.tokens = usual_tokens(wanted) if endpoint.pace.tokens_per_minute else 0
                endpoint.pace.sent(wanted.tokens)
                begun.append((lane, wanted))
        if self._set_to_work(endpoint, list(self._unknown(begun))) and is_more:
            self._wake(endpoint)

    def _take_back(self, lane: Lane, job: Job) -> None:
        """A job is not begun after all."""
        lane.endpoint.pace.unsent(job.tokens)
        for one in job.all:
            self._leases.give_back(one.key)

    def _unknown(self, begun: Sequence[tuple[Lane, Job]]) -> Iterator[tuple[Lane, Job]]:
        """Those that no other process has answered between our first look into the ledger and our lease."""
        try:
            if known := self._ledger.look(one.key for _, job in begun for one in job.all):
                self._see_durable()
        except Exception as error:
            for lane, job in begun:
                self._take_back(lane, job)
                self._end(job.all, error, lane)
                self._wake(lane.endpoint)
            return
        for lane, job in begun:
            if not any(one.key in known for one in job.all):
                yield lane, job
                continue
            self._take_back(lane, job)
            jobs = _single(job)
            self._count_known(lane, sum(one.key in known for one in jobs))
            for one in jobs:
                if one.key in known:
                    self._finish(one, known[one.key])
            rest = _as_one([one for one in jobs if one.key not in known])
            self._enqueue(lane, [rest] if rest else [], first=True)  # wakes the endpoint, too, which has room again

    def _set_to_work(self, endpoint: Endpoint, begun: Sequence[tuple[Lane, Job]]) -> bool:
        """Have jobs attended to, each when its budget has set aside what it can cost; whether all budgets had room."""
        for place, (lane, job) in enumerate(begun):
            try:
                has_room = self._sender.reserve(lane, job)
            except Exception as error:
                self._take_back(lane, job)
                self._end(job.all, error, lane)
                self._wake(endpoint)
                continue
            if not has_room:  # until some that are in flight are settled, perhaps at another endpoint
                for later in begun[place:]:
                    self._take_back(*later)
                endpoint.queue.extendleft(reversed(begun[place:]))
                endpoint.look_again(self._loop.call_later(_LOOK_S, self._wake, endpoint))
                return False
            job.number = job.number or lane.next_number()
            lane.tasks[job] = self._loop.create_task(self._attend(lane, job))
        return True

    def _is_free(self, lane: Lane, job: Job) -> bool:
        try:
            return self._is_ours(lane, job)
        except Exception as error:
            self._end(job.all, error, lane)
            return False

    def _is_ours(self, lane: Lane, job: Job) -> bool:
        """Whether no other process has a job in flight; else it waits for that."""
        if all(self._lease(one) for one in job.all):
            return True
        for one in _single(job):
            self._leases.give_back(one.key)
            if not self._elsewhere:
                self._loop.call_later(_LOOK_S, self._look_again)
            self._elsewhere[one] = lane
        return False

    def _lease(self, job: Job) -> bool:
        """Lease a job; one that another process has had in flight for longer than any wait is taken from it."""
        if self._leases.take(job.key):
            return True
        job.leased_since = job.leased_since or time.monotonic()
        return time.monotonic() - job.leased_since > _FROZEN * job.asker.call.timeout_s

    def _let_in(self) -> None:
        """Other processes may wait to use the ledger."""
        self._loop.call_later(_LOOK_S, self._let_in)
        lanes = [*self.lanes.values(), *self._closing]
        self._leases.let_in(one.key for lane in lanes for job in lane.tasks for one in job.all)

    def _look_again(self) -> None:
        """At what other processes had in flight: the ledger has it, or it is our turn, or they are still at it."""
        elsewhere, self._elsewhere = self._elsewhere, {}
        for job, lane in elsewhere.items():
            self._enqueue(lane, [job], first=True)

    async def _attend(self, lane: Lane, job: Job) -> None:
        """See one attempt at a job through: to its outcome, or back into the queue."""
        jobs, began = job.all, time.monotonic()
        try:
            kept = await self._sender.send(lane, job)
        except asyncio.CancelledError:
            self._end(jobs, _closed())
            raise
        except TryAgain as fault:
            self._again(lane, job, fault, began)
        except Refused as error:
            lane.endpoint.pace.answered()
            if job.others:  # perhaps only for being asked for several samples, which they tell one by one
                for one in jobs:
                    one.others, one.is_alone = [], True
                self._enqueue(lane, jobs, first=True)
            else:
                self._end(jobs, lane.judge(job, error), lane)
        except Exception as error:
            self._end(jobs, error, lane)
        else:
            lane.count_answers(len(kept))
            if len(kept) > 1:
                lane.takes_n = True
            elif job.is_alone and lane.takes_n is None:
                lane.takes_n = False
            for one, reply in zip(jobs, kept, strict=False):
                one.asker.call.meter.asked(one.attempts, reply)
                self._finish(one, reply, asked=True)
            if rest := jobs[len(kept) :]:  # it knows no n, and does not say so
                self._apart(lane, rest)
        finally:
            self._attended(lane, job, jobs)

    def _attended(self, lane: Lane, job: Job, jobs: Sequence[Job]) -> None:
        for one in jobs:
            self._leases.give_back(one.key)
        del lane.tasks[job]
        endpoint = lane.endpoint
        endpoint.pace.in_flight -= 1
        if not (endpoint.pace.in_flight or endpoint.queue or lane.later):
            endpoint.pace.idle()
        self._wake(endpoint)

    # Called in the loop: what becomes of a job.

    def _again(self, lane: Lane, job: Job, fault: TryAgain, began: float) -> None:
        """Have a job sent again later, if it may be."""
        call = job.asker.call
        try:
            is_its_own = not lane.endpoint.pace.faulted(fault, is_first=job.attempts == 1, began=began, say=call.say)
        except TeacherError as error:
            return self._end(job.all, error, lane)
        job.faults += is_its_own
        if job.faults > call.retries:
            outcome = given_up(fault, job.attempts)
            if isinstance(outcome, Refused):
                outcome = lane.judge(job, outcome)
            return self._end(job.all, outcome, lane)
        if lane.failed:
            return self._end(job.all, lane.failed)
        pause_s = 0.0 if fault.after_s or fault.otherwise else _backoff_s(job.attempts)
        lane.later[job] = self._loop.call_later(pause_s, self._now, lane, job)
        return None

    def _now(self, lane: Lane, job: Job) -> None:
        del lane.later[job]
        self._enqueue(lane, [job], first=True)

    def _apart(self, lane: Lane, jobs: Sequence[Job]) -> None:
        """Send samples one by one, and from now on all, unless the back end has brought several."""
        lane.takes_n = bool(lane.takes_n)
        for job in jobs:
            job.others = []
        self._enqueue(lane, jobs, first=True)

    def _end(self, jobs: Iterable[Job], error: Exception, lane: Lane | None = None) -> None:
        """Jobs come to nothing; and, unless it is their own fault, all that waits for their back end too."""
        is_known = isinstance(error, Refused) and error.in_ledger
        is_final = isinstance(error, Refused) and error.reason not in PASSING and lane and lane.keeps_refusals
        for job in jobs:
            if is_known:
                job.asker.call.meter.known(None)
            elif job.attempts:
                job.asker.call.meter.asked(job.attempts, None)
            if isinstance(error, Refused):
                if is_final:
                    self._sender.keep_refusal(job, error)
            elif (rest := self._desk.pass_on(job)) is not None:
                self._enqueue(rest.asker.lane, [rest])
            self._finish(job, error)
        if lane is not None and not isinstance(error, (Refused, BudgetReached)):
            self._fail(lane, error)

    def _finish(self, job: Job, outcome: Outcome, *, asked: bool = False) -> None:
        """A job has its outcome; who waits for it hears of it soon, of many at once.

        An asker that woke for each row would fight the loop for the interpreter.
        """
        self._finished.extend(self._desk.settle(job, outcome, asked=asked))
        if not self._is_telling:
            self._is_telling = True
            self._loop.call_later(_TELL_S, self._tell)

    def _tell(self) -> None:
        slots, self._finished, self._is_telling = self._finished, [], False
        for slot in slots:
            slot.waiter.answered(slot)

    def _fail(self, lane: Lane, error: Exception) -> None:
        """The endpoint cannot be used: everything that waits for it hears of it."""
        lane.failed = lane.failed or error
        for job in lane.withdraw():
            self._end(job.all, error)

    async def _close(self, lane: Lane, hurry: bool) -> None:
        self._fail(lane, _closed())
        try:
            await self._let_land(lane, hurry)
            await lane.backend.aclose()
        finally:
            self._tell()
            await self._write_down(lane, hurry)

    async def _write_down(self, lane: Lane, hurry: bool) -> None:
        """What nobody waits for, too; another process that writes is waited for, but not long in a hurry."""
        self._sender.flush()
        began = time.monotonic()
        while self._sender.is_behind:
            if time.monotonic() - began > (_FLUSH_S if hurry or lane.is_hurried else BUSY_S):
                break
            await asyncio.sleep(0.01)

    async def _let_land(self, lane: Lane, hurry: bool) -> None:
        if not lane.tasks:
            return
        _, late = await asyncio.wait(lane.tasks.values(), timeout=0 if lane.outlives else _DRAIN_S)
        if late and lane.backend.costs and not (hurry or lane.outlives):
            late = await self._patiently(lane)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for job in list(lane.tasks):  # cancelled before it had begun
            self._sender.settle(job)
            self._attended(lane, job, job.all)

    async def _patiently(self, lane: Lane) -> set[asyncio.Task[None]]:
        """Wait for what is in flight and paid for; what did not come, as for ``hurry``, is returned."""
        call = next(iter(lane.tasks)).asker.call
        with suppress(Exception):  # nobody may be there any more to hear it
            call.say(
                f"waiting for {len(lane.tasks)} answers that are in flight, and paid for, for up to "
                f"{call.timeout_s:.0f} s; Ctrl-C gives them up"
            )
        _, late = await asyncio.wait(lane.tasks.values(), timeout=call.timeout_s)
        return late


def _grouped(jobs: Sequence[Job]) -> Iterator[Job]:
    """The jobs, samples of the same messages as one."""
    first: Job | None = None
    for job in jobs:
        request = job.asker.request
        alone = not request.sample or "seed" in request.sampling
        if first is None or alone or request.messages is not first.asker.request.messages:
            if first is not None:
                yield first
            first = job
        else:
            first.others.append(job)
    if first is not None:
        yield first


def _as_one(jobs: Sequence[Job]) -> Job | None:
    """Samples of the same messages as one job."""
    if not jobs:
        return None
    jobs[0].others = list(jobs[1:])
    return jobs[0]


def _single(job: Job) -> list[Job]:
    """A job and the samples that went with it, each for itself."""
    jobs = job.all
    for one in jobs:
        one.others = []
    return jobs


def _pace(settings: TeacherSettings, backend: Backend) -> Pace:
    name = getattr(backend, "shown", settings.backend)
    return Pace(name, settings.concurrency, settings.requests_per_minute, settings.tokens_per_minute)


def _backoff_s(attempts: int) -> float:
    """Half a second, doubling to a minute, with a jitter that keeps rows from coming back all at once."""
    return random.uniform(0.5, 1.0) * min(60.0, 0.5 * 2 ** min(attempts - 1, 10))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _closed() -> TeacherError:
    return TeacherError("the teacher was closed before it had answered; every reply that came is in the ledger")
