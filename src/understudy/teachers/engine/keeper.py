"""The keeper: sees replies into the ledger, all that came meanwhile in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

from understudy.teachers.ledger import Ledger
from understudy.teachers.ledger_file import BUSY_S, Failure, LedgerBusy, Refusal, Write
from understudy.teachers.request import Reply

_GATHER_S = 0.002  # between two commits, at least: each costs as much as ten replies
_TURN_S = 0.1  # how long the loop waits for another process that writes, and leaves it alone after that
_SLOW_S = 0.002  # a disk that takes longer than this, twice in a row, is not waited for in the loop,
_FOR_S = 1.0  # for so long


class Keeper:
    """Belongs to one loop; every method is called in it.

    Where the disk is quick the loop itself waits for it, which costs less than to change threads twice.
    """

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger, self._loop = ledger, loop
        self._writes: list[Write] = []
        self._futures: list[asyncio.Future[Reply]] = []
        self._others: list[Failure | Refusal] = []
        self._is_busy = False  # a commit is due, or not durable yet
        self._done_at = 0.0
        self._was_slow, self._slow_until = False, 0.0  # the disk
        self._busy_since = 0.0  # another process has been writing since

    def keep(self, write: Write) -> asyncio.Future[Reply]:
        """Done when the reply is durable: it, or the ledger's own where another process was first."""
        durable: asyncio.Future[Reply] = self._loop.create_future()
        self._writes.append(write)
        self._futures.append(durable)
        self._soon()
        return durable

    def note(self, other: Failure | Refusal) -> None:
        """Write down an attempt that brought nothing, soon."""
        self._others.append(other)
        self._soon()

    @property
    def is_behind(self) -> bool:
        """Whether something is not written down yet."""
        return bool(self._others or self._writes)

    def flush(self) -> None:
        """Write down now what nobody waits for, unless another process writes: then as soon as it can be."""
        if self.is_behind:
            self._commit()

    def _soon(self) -> None:
        """While one group is on its way to the disk the next one gathers."""
        if not self._is_busy:
            self._is_busy = True
            wait_s = self._done_at + _GATHER_S - perf_counter()
            self._loop.call_later(wait_s, self._commit) if wait_s > 0 else self._loop.call_soon(self._commit)

    def _commit(self) -> None:
        writes, futures, others = self._writes, self._futures, self._others
        self._writes, self._futures, self._others = [], [], []
        try:
            stored = self._ledger.commit(writes, others, wait_s=_TURN_S)
        except Exception as error:
            self._busy_since = self._busy_since or perf_counter()
            if not isinstance(error, LedgerBusy) or perf_counter() - self._busy_since > BUSY_S:
                self._resolve(futures, [], error)
                return
            self._writes, self._futures, self._others = writes, futures, others
            self._loop.call_later(_TURN_S, self._commit)  # and the loop goes on meanwhile
            return
        self._busy_since = 0.0
        if perf_counter() > self._slow_until:
            self._resolve(futures, stored, self._synced())
            return

        def tell(error: Exception | None) -> None:  # in the ledger's thread: wakes the loop once for all
            with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                self._loop.call_soon_threadsafe(self._resolve, futures, stored, error)

        self._ledger.when_durable(tell)

    def _synced(self) -> Exception | None:
        began = perf_counter()
        try:
            self._ledger.sync()
        except Exception as error:
            return error
        is_slow = (now := perf_counter()) - began > _SLOW_S
        if is_slow and self._was_slow:
            self._slow_until = now + _FOR_S
        self._was_slow = is_slow
        return None

    def _resolve(
        self, futures: Sequence[asyncio.Future[Reply]], stored: Sequence[Reply], error: Exception | None
    ) -> None:
        for place, future in enumerate(futures):
            if future.done():  # cancelled
                continue
            future.set_exception(error) if error else future.set_result(stored[place])
        self._is_busy, self._done_at = False, perf_counter()
        if self._writes or self._others:
            self._soon()
