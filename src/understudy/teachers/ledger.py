"""The ledger: every reply of every teacher, durable before anyone sees it.

One SQLite file in write-ahead mode that studies share and several processes may use at once. One thread writes: it
takes all replies that wait, commits them in one transaction and tells each asker. ``synchronous=FULL`` makes a commit
outlive a power cut; the group makes that affordable.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import orjson

from understudy.errors import WorkspaceError
from understudy.teachers.ledger_file import (
    REPLY_COLUMNS,
    Committed,
    Write,
    commit,
    connect,
    explain,
    prepare,
    reply_of,
    unpack,
)
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import Price

_GROUP = 1024  # most replies in one transaction


def ledger_path() -> Path:
    """Where the ledger is by default: ``$UNDERSTUDY_CACHE_DIR`` or the user's cache folder."""
    if named := os.environ.get("UNDERSTUDY_CACHE_DIR"):
        return Path(named).expanduser() / "ledger.sqlite3"
    if sys.platform == "darwin":
        cache = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "understudy" / "ledger.sqlite3"


@dataclass(frozen=True, slots=True)
class Entry:
    """One reply with the request that it answers."""

    key: str
    request: Request
    reply: Reply
    price: Price | None
    created: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class LedgerInfo:
    """What a ledger holds."""

    path: str
    bytes: int
    replies: int
    recorded: int
    usd: float
    teachers: dict[str, int]  # replies a teacher


class Ledger:
    """An open ledger. Any thread may use it; close it, or use it in a ``with`` statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = connect(path)
        self._writer = connect(path)
        self._reading = threading.Lock()
        self._closing = threading.Lock()
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="understudy-ledger", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Ledger:
        """Open the ledger at ``path`` (default: ``ledger_path()``); an absent one is made.

        Raises:
            WorkspaceError: the file is no ledger, is of a newer version, or cannot be written.
            OutOfSpace: the disk is full.
        """
        place = ledger_path() if path is None else Path(path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            prepare(place)
            return cls(place)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, place) from None

    def get(self, key: str) -> Entry | None:
        """The reply under ``key`` with its request; ``None`` where there is none."""
        sql = f"SELECT {REPLY_COLUMNS}, request, price, created FROM replies WHERE key = ?"
        rows = self._read(sql, (key,))
        if not rows:
            return None
        *reply, request, price, created = rows[0]
        content = orjson.loads(unpack(request, reply[1] & 1))
        return Entry(
            key=key,
            request=Request(**content),
            reply=reply_of(reply),
            price=Price.model_validate_json(price) if price else None,
            created=created,
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there, by key."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), 500):  # SQLite binds at least 999 values
            some = keys[start : start + 500]
            sql = f"SELECT {REPLY_COLUMNS}, key FROM replies WHERE key IN ({','.join('?' * len(some))})"
            for *reply, key in self._read(sql, some):
                found[key] = reply_of(reply)
        return found

    def put(self, request: Request, reply: Reply, price: Price | None = None) -> Reply:
        """Store one reply and wait until it is durable.

        Returns:
            The reply that the ledger now holds: an earlier one to the same request stays.
        """
        done = threading.Event()
        outcome: list[Any] = []

        def committed(stored: list[tuple[Any, Reply]], error: Exception | None) -> None:
            outcome.append(error or stored[0][1])
            done.set()

        self.enqueue(request.content(), request.teacher, reply, price, token=None, committed=committed)
        done.wait()
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return outcome[0]

    def enqueue(
        self, content: bytes, teacher: str, reply: Reply, price: Price | None, *, token: Any, committed: Committed
    ) -> None:
        """Hand one reply to the writer; ``committed`` is called with ``token`` when it is durable."""
        with self._closing:  # nothing may come behind the None that ends the writer
            if self._closed:
                raise WorkspaceError(f"the ledger {str(self.path)!r} is closed")
            self._queue.put(Write(content, teacher, reply, price, token, committed))

    def info(self) -> LedgerInfo:
        """How much there is, and from whom."""
        ((replies, recorded, usd),) = self._read("SELECT count(*), sum(recorded), sum(usd) FROM replies")
        teachers = self._read("SELECT teacher, count(*) FROM replies GROUP BY teacher ORDER BY 2 DESC, 1")
        size = sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))
        return LedgerInfo(str(self.path), size, replies, recorded or 0, usd or 0.0, dict(teachers))

    def close(self) -> None:
        """Write what waits and close the file. Closing twice does no harm."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._reading:
                return self._reader.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def _write_all(self) -> None:
        is_open = True
        while is_open:
            group = [self._queue.get()]
            with suppress(Empty):
                while group[-1] is not None and len(group) < _GROUP:
                    group.append(self._queue.get_nowait())
            is_open = group[-1] is not None
            self._write([write for write in group if write is not None])

    def _write(self, group: list[Write]) -> None:
        if not group:
            return
        stored: dict[Committed, list[tuple[Any, Reply]]] = {}
        error: Exception | None = None
        try:
            replies = commit(self._writer, group)
        except Exception as raised:  # whatever it is, those who wait must hear of it
            replies = [write.reply for write in group]
            error = explain(raised, self.path) if isinstance(raised, (sqlite3.Error, OSError)) else raised
        for write, reply in zip(group, replies, strict=True):
            stored.setdefault(write.committed, []).append((write.token, reply))
        for committed, pairs in stored.items():
            committed(pairs, error)
