"""Leases: which requests this process has in flight, so that no other process over the ledger sends them too.

A lease is a lock on one byte of a file beside the ledger, at the place that the request's key names. The system lets
it go when the process ends, however it ends, so that nobody waits for the dead. A process that is alone needs none: it
holds the door. Who comes later rings and waits; the one inside then leases all that it has in flight and opens.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: without leases two processes may send one request, and the ledger keeps one reply
    fcntl = None

_DOOR, _BELL, _FIRST = 0, 1, 2  # bytes of the file; the leases follow


class Leases:
    """The leases of one open ledger."""

    def __init__(self, ledger: Path) -> None:
        self._file = os.open(ledger.with_name(ledger.name + "-leases"), os.O_RDWR | os.O_CREAT, 0o644)
        self._is_alone = self._lock(_DOOR)
        self._is_inside = self._is_alone
        if self._is_alone and not self._is_free(_BELL):  # there are others, who lease
            self._open()
        elif not self._is_alone:
            self._ring()

    def take(self, key: str) -> bool:
        """Lease a request; ``False`` if another process has, or we are not let in yet."""
        if self._is_alone:
            return True
        self._is_inside = self._is_inside or self._is_free(_DOOR)
        return self._is_inside and self._lock(_place(key))

    def give_back(self, key: str) -> None:
        """End a lease."""
        if not self._is_alone:
            self._unlock(_place(key))

    def let_in(self, in_flight: Iterable[str]) -> None:
        """See whether somebody rings; to be called often.

        Args:
            in_flight: the keys of all requests that were taken and not given back.
        """
        if self._is_alone and not self._is_free(_BELL):
            for key in in_flight:
                self._lock(_place(key))
            self._open()

    @property
    def is_alone(self) -> bool:
        """Whether no other process uses the ledger."""
        return self._is_alone

    def close(self) -> None:
        """End all leases, also of forked processes, which share them."""
        self._unlock(0, count=0)
        os.close(self._file)

    def _open(self) -> None:
        self._ring()
        self._is_alone = False
        self._unlock(_DOOR)

    def _ring(self) -> None:
        while not self._lock(_BELL, shared=True):  # somebody looks whether anybody rings
            time.sleep(0.001)

    def _is_free(self, place: int) -> bool:
        if not self._lock(place):
            return False
        self._unlock(place)
        return True

    def _lock(self, place: int, *, shared: bool = False) -> bool:
        if fcntl is None:
            return True
        try:
            if hasattr(fcntl, "F_OFD_SETLK"):  # Linux: of this opening, not of all of the process
                self._set(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, place)
            else:
                fcntl.lockf(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock(self, place: int, *, count: int = 1) -> None:  # a count of 0 is all from there on
        if fcntl is None:
            return
        if hasattr(fcntl, "F_OFD_SETLK"):
            self._set(fcntl.F_UNLCK, place, count)
        else:
            fcntl.lockf(self._file, fcntl.LOCK_UN, count, place)

    def _set(self, kind: int, place: int, count: int = 1) -> None:
        assert fcntl is not None
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, place, count, 0))


def _place(key: str) -> int:
    return _FIRST + int(key[-15:], 16)  # 60 bits: a position in a file
