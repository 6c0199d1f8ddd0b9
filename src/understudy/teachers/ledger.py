"""The ledger: every reply of every teacher, durable before anyone sees it.

One SQLite file in write-ahead mode that studies share and several processes may use at once. Replies are committed in
groups; who commits does not wait for the disk, because a thread syncs the log and tells when all that was committed
until then outlives a power cut. What one sync costs is shared by every group that came meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import orjson

from understudy.errors import WorkspaceError
from understudy.teachers.engine.leases import Leases
from understudy.teachers.ledger_file import (
    BUSY_S,
    REPLY_COLUMNS,
    Failure,
    Refusal,
    Write,
    commit,
    connect,
    explain,
    key_bytes,
    key_text,
    prepare,
    reply_of,
    unpack,
)
from understudy.teachers.request import Reply, Request, key_of
from understudy.teachers.settings import Price
from understudy.workspace.files import sync

_GROUP = 1000  # replies in one transaction where many come at once

Durable: TypeAlias = Callable[[Exception | None], None]
"""Called in the ledger's thread when everything committed before outlives a power cut, or with why it may not."""


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
    failures: int  # attempts that brought nothing and may have been billed
    failures_usd: float  # the most that they can have cost
    refusals: int  # requests that were refused for good, at no cost
    teachers: dict[str, int]  # replies a teacher


class Ledger:
    """An open ledger. Any thread may use it; close it, or use it in a ``with`` statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = connect(path)
        self._writer = connect(path, is_synced=False)
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._log = _open_log(path, self._writer)
        self._waiting: SimpleQueue[Durable | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._sync_all, name="understudy-ledger", daemon=True)
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
        rows = self._read(f"SELECT {_ENTRY_COLUMNS} FROM replies WHERE key = ?", (key_bytes(key),))
        return _entry(rows[0]) if rows else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there, by key."""
        return self._get_many(keys, self._reader, self._reading)

    def look(self, keys: Iterable[str]) -> dict[str, Reply]:
        """As ``get_many``, for who commits: quicker, because what was just written is at hand, but it keeps others
        from writing meanwhile."""
        return self._get_many(keys, self._writer, self._writing)

    def _get_many(self, keys: Iterable[str], connection: sqlite3.Connection, lock: threading.Lock) -> dict[str, Reply]:
        found: dict[str, Reply] = {}
        keys = iter(keys)
        while some := [key_bytes(key) for key in islice(keys, _GROUP // 2)]:  # SQLite binds at least 999 values
            sql = f"SELECT {REPLY_COLUMNS}, key FROM replies WHERE key IN ({','.join('?' * len(some))})"
            for *reply, key in self._select(connection, lock, sql, some):
                found[key_text(key)] = reply_of(reply)
        return found

    def entries(self) -> Iterator[Entry]:
        """Every reply with its request, in the order in which they were stored."""
        with closing(connect(self.path)) as connection:  # the reader is for short questions
            for row in connection.execute(f"SELECT {_ENTRY_COLUMNS} FROM replies ORDER BY rowid"):
                yield _entry(row)

    def refusal(self, key: str) -> Refusal | None:
        """How the request of that key was refused the last time; ``None`` where it never was."""
        sql = "SELECT request, teacher, reason, detail, created FROM refusals WHERE key = ?"
        for content, *rest in self._read(sql, (key_bytes(key),)):
            return Refusal(key, unpack(content, 1), *rest)
        return None

    def put(self, request: Request, reply: Reply, price: Price | None = None) -> Reply:
        """Store one reply and wait until it is durable.

        Returns:
            The reply that the ledger now holds: an earlier one to the same request stays.
        """
        content = request.content()
        (stored,) = self.commit([Write(key_of(content), content, request.teacher, reply, price)])
        self.sync()
        return stored

    def add(self, entries: Iterable[Entry | Refusal]) -> int:
        """Store replies of elsewhere and wait until they are durable; earlier replies to the same requests stay.

        Returns:
            How many replies were new.
        """
        entries, new = iter(entries), 0
        while group := list(islice(entries, _GROUP)):
            writes, refusals = [], []
            for entry in group:
                if isinstance(entry, Refusal):
                    refusals.append(entry)
                    continue
                content = entry.request.content()
                write = Write(key_of(content), content, entry.request.teacher, entry.reply, entry.price, entry.created)
                writes.append(write)
            known = self.get_many([write.key for write in writes])
            new += len({write.key for write in writes} - known.keys())
            self.commit(writes, refusals)
        self.sync()
        return new

    def commit(
        self, writes: Sequence[Write], others: Sequence[Failure | Refusal] = (), *, wait_s: float = BUSY_S
    ) -> list[Reply]:
        """Store a group of replies; they are there at once for all who read, and durable after ``when_durable``.

        Returns:
            The replies that the ledger now holds, one for each that came: an earlier one to the same request stays.

        Raises:
            LedgerBusy: another process has been writing for ``wait_s``.
        """
        try:
            with self._writing:
                if self._closed:
                    raise WorkspaceError(f"the ledger {str(self.path)!r} is closed")
                self._writer.execute(f"PRAGMA busy_timeout={int(1000 * wait_s)}")
                return commit(self._writer, writes, others)
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from None

    def sync(self) -> None:
        """Wait until all that was committed before outlives a power cut.

        Raises:
            WorkspaceError, OutOfSpace: it may not.
        """
        try:
            _sync(self._log)
        except OSError as error:
            raise explain(error, self.path) from None

    def when_durable(self, tell: Durable) -> None:
        """Have ``tell`` called when all that was committed before this call outlives a power cut."""
        with self._writing:  # nothing may come behind the None that ends the thread
            if not self._closed:
                self._waiting.put(tell)
                return
        tell(None)  # closing has synced everything

    def note(self, name: str, value: str) -> None:
        """Remember something that was found out; it costs no more than the time if it is lost."""
        try:
            with self._writing:
                self._writer.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def noted(self, name: str) -> str | None:
        """What was remembered."""
        rows = self._read("SELECT value FROM notes WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def prune(self, *, before: float | None = None, teacher: str | None = None) -> int:
        """Forget replies, failed attempts and refusals of before a time (seconds since 1970), of one teacher, or both.

        Returns:
            How many replies are gone. What asks for them again pays for them again.

        Raises:
            WorkspaceError: a teacher is open on the ledger, here or in another process; while this works, none sends.
        """
        where, values = _selected(before, teacher)
        with closing(Leases(self.path)) as leases:
            if not leases.is_alone:
                raise WorkspaceError(f"the ledger {str(self.path)!r} is in use; prune it when no run is under way")
            gone = self._prune(where, values)
        self.sync()
        return gone

    def _prune(self, where: str, values: Sequence[Any]) -> int:
        try:
            with self._writing:
                self._writer.execute(f"PRAGMA busy_timeout={int(1000 * BUSY_S)}")
                gone = self._writer.execute(f"DELETE FROM replies WHERE {where}", values).rowcount
                self._writer.execute(f"DELETE FROM failures WHERE {where}", values)
                self._writer.execute(f"DELETE FROM refusals WHERE {where}", values)
                self._writer.execute("VACUUM")
                return gone
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self.path) from None

    def info(self, *, before: float | None = None, teacher: str | None = None) -> LedgerInfo:
        """How much there is, and from whom; with arguments: how much ``prune`` would forget."""
        which, values = _selected(before, teacher)
        ((replies, recorded, usd),) = self._read(
            f"SELECT count(*), sum(recorded), sum(usd) FROM replies WHERE {which}", values
        )
        ((failures, failures_usd),) = self._read(f"SELECT count(*), sum(usd) FROM failures WHERE {which}", values)
        ((refusals,),) = self._read(f"SELECT count(*) FROM refusals WHERE {which}", values)
        teachers = self._read(
            f"SELECT teacher, count(*) FROM replies WHERE {which} GROUP BY teacher ORDER BY 2 DESC, 1", values
        )
        size = sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))
        return LedgerInfo(
            path=str(self.path),
            bytes=size,
            replies=replies,
            recorded=recorded or 0,
            usd=usd or 0.0,
            failures=failures,
            failures_usd=failures_usd or 0.0,
            refusals=refusals,
            teachers=dict(teachers),
        )

    def close(self) -> None:
        """Sync what was committed and close the file. Closing twice does no harm."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        with self._reading:
            self._reader.close()
        self._writer.close()
        os.close(self._log)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._select(self._reader, self._reading, sql, values)

    def _select(
        self, connection: sqlite3.Connection, lock: threading.Lock, sql: str, values: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        try:
            with lock:
                return connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self.path) from None

    def _sync_all(self) -> None:
        is_open = True
        while is_open:
            waiting = [self._waiting.get()]
            with suppress(Empty):
                while waiting[-1] is not None:
                    waiting.append(self._waiting.get_nowait())
            is_open = waiting[-1] is not None
            error: Exception | None = None
            try:
                self.sync()
            except Exception as raised:
                error = raised
            for tell in waiting:
                if tell is not None:
                    tell(error)


_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
_ENTRY_COLUMNS = f"{REPLY_COLUMNS}, key, request, price, created"


def _selected(before: float | None, teacher: str | None) -> tuple[str, tuple[Any, ...]]:
    where = "created < ? AND (? IS NULL OR teacher = ?)"
    return where, (float("inf") if before is None else before, teacher, teacher)


def _entry(row: Sequence[Any]) -> Entry:
    *reply, key, request, price, created = row
    return Entry(
        key=key_text(key),
        request=Request(**orjson.loads(unpack(request, reply[2] & 1))),
        reply=reply_of(reply),
        price=Price.model_validate_json(price) if price else None,
        created=created,
    )


def _open_log(path: Path, connection: sqlite3.Connection) -> int:
    """The write-ahead log, for syncing; it stays the same file as long as a connection is open."""
    connection.execute("SELECT 1 FROM replies LIMIT 1").fetchone()  # makes the file
    log = os.open(path.with_name(path.name + "-wal"), os.O_RDWR)
    sync(path.parent)  # the name of a new file must outlive a power cut too
    return log
