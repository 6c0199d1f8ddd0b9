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
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import orjson

from understudy.errors import OutOfSpace, WorkspaceError
from understudy.teachers.request import Reply, Request, key_of
from understudy.teachers.settings import Price

VERSION = 1
_LONG = 512  # bytes from which compressing a text pays
_GROUP = 1024  # most replies in one transaction
_BUSY_S = 60.0

_SCHEMA = """
CREATE TABLE replies (
    key TEXT PRIMARY KEY,         -- digest of the request's content
    teacher TEXT NOT NULL,        -- who answered, as in the request
    request BLOB NOT NULL,        -- canonical JSON; zlib where long
    text BLOB NOT NULL,           -- UTF-8; zlib where long, then marked in `packed`
    packed INTEGER NOT NULL,      -- 1: request is zlib, 2: text is zlib
    finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    usd REAL,
    model TEXT NOT NULL,          -- as the teacher named itself
    latency_s REAL NOT NULL,
    attempts INTEGER NOT NULL,
    recorded INTEGER NOT NULL,    -- an answer to a prompt that was not ours
    price TEXT,                   -- JSON, as it was when the reply was paid
    created REAL NOT NULL         -- seconds since 1970
)
"""
_REPLY = "text, packed, finish_reason, prompt_tokens, completion_tokens, usd, model, latency_s, attempts, recorded"


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


Committed = Callable[[list[tuple[Any, Reply]], Exception | None], None]
"""Called in the writer's thread once a commit with ``(token, stored reply)`` pairs, or with the error of all."""


@dataclass(frozen=True, slots=True)
class _Write:
    row: tuple[Any, ...]
    reply: Reply
    token: Any
    committed: Committed


class Ledger:
    """An open ledger. Any thread may use it; close it, or use it in a ``with`` statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = _connect(path)
        self._writer = _connect(path)
        self._reading = threading.Lock()
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
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
            _prepare(place)
            return cls(place)
        except (sqlite3.Error, OSError) as error:
            raise _explain(error, place) from None

    def get(self, key: str) -> Entry | None:
        """The reply under ``key`` with its request; ``None`` where there is none."""
        sql = f"SELECT {_REPLY}, request, price, created FROM replies WHERE key = ?"
        rows = self._read(sql, (key,))
        if not rows:
            return None
        *reply, request, price, created = rows[0]
        content = orjson.loads(zlib.decompress(request) if reply[1] & 1 else request)
        return Entry(
            key=key,
            request=Request(**content),
            reply=_reply(tuple(reply)),
            price=Price.model_validate_json(price) if price else None,
            created=created,
        )

    def get_many(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are there, by key."""
        found: dict[str, Reply] = {}
        for start in range(0, len(keys), 500):  # SQLite binds at least 999 values
            some = keys[start : start + 500]
            sql = f"SELECT {_REPLY}, key FROM replies WHERE key IN ({','.join('?' * len(some))})"
            for *reply, key in self._read(sql, some):
                found[key] = _reply(tuple(reply))
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
        if self._closed:
            raise WorkspaceError(f"the ledger {str(self.path)!r} is closed")
        row = (content, teacher, price.model_dump_json() if price else None)
        self._queue.put(_Write(row, reply, token, committed))

    def info(self) -> LedgerInfo:
        """How much there is, and from whom."""
        ((replies, recorded, usd),) = self._read("SELECT count(*), sum(recorded), sum(usd) FROM replies")
        teachers = self._read("SELECT teacher, count(*) FROM replies GROUP BY teacher ORDER BY 2 DESC, 1")
        size = sum(p.stat().st_size for p in self.path.parent.glob(self.path.name + "*"))
        return LedgerInfo(str(self.path), size, replies, recorded or 0, usd or 0.0, dict(teachers))

    def close(self) -> None:
        """Write what waits and close the file. Closing twice does no harm."""
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
            raise _explain(error, self.path) from None

    def _write_all(self) -> None:
        while (first := self._queue.get()) is not None:
            group, more = [first], True
            while more and len(group) < _GROUP:
                try:
                    write = self._queue.get_nowait()
                except Empty:
                    break
                if write is None:
                    self._queue.put(None)  # closing: after this group
                    break
                group.append(write)
            self._write(group)

    def _write(self, group: list[_Write]) -> None:
        stored: dict[Committed, list[tuple[Any, Reply]]] = {}
        error: Exception | None = None
        try:
            replies = _commit(self._writer, group)
        except Exception as raised:  # whatever it is, those who wait must hear of it
            replies = [write.reply for write in group]
            error = _explain(raised, self.path) if isinstance(raised, (sqlite3.Error, OSError)) else raised
        for write, reply in zip(group, replies, strict=True):
            stored.setdefault(write.committed, []).append((write.token, reply))
        for committed, pairs in stored.items():
            committed(pairs, error)


def _commit(connection: sqlite3.Connection, group: list[_Write]) -> list[Reply]:
    """Store a group in one transaction; where a key was there before, the reply that is there."""
    rows = [_row(write) for write in group]
    insert = f"INSERT OR IGNORE INTO replies VALUES ({','.join('?' * len(rows[0]))})"
    replies = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for row, write in zip(rows, group, strict=True):
            is_new = connection.execute(insert, row).rowcount == 1
            if not is_new:
                earlier = connection.execute(f"SELECT {_REPLY} FROM replies WHERE key = ?", (row[0],))
            replies.append(write.reply if is_new else _reply(earlier.fetchone()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise
    return replies


def _row(write: _Write) -> tuple[Any, ...]:
    content, teacher, price = write.row
    text, *numbers = astuple(write.reply)
    request, packed_request = _pack(content)
    text, packed_text = _pack(text.encode())
    packed = packed_request + 2 * packed_text
    return (key_of(content), teacher, request, text, packed, *numbers, price, time.time())


def _pack(raw: bytes) -> tuple[bytes, int]:
    return (zlib.compress(raw, 1), 1) if len(raw) >= _LONG else (raw, 0)


def _reply(row: tuple[Any, ...]) -> Reply:
    text, packed, *numbers, recorded = row
    return Reply((zlib.decompress(text) if packed & 2 else text).decode(), *numbers, bool(recorded))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def _prepare(path: Path) -> None:
    """Make the table where there is none; two processes may try at once."""
    with closing(_connect(path)) as connection:
        give_up = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:  # SQLite does not wait for this lock by itself
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)
        connection.execute("BEGIN IMMEDIATE")
        ((version,),) = connection.execute("PRAGMA user_version")
        if version > VERSION:
            raise WorkspaceError(
                f"the ledger {str(path)!r} is of version {version}, this program knows {VERSION}; "
                "update understudy, or set UNDERSTUDY_CACHE_DIR to another folder"
            )
        if version == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")


def _explain(error: Exception, path: Path) -> Exception:
    if isinstance(error, WorkspaceError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == 28:  # ENOSPC
        return OutOfSpace(f"the disk is full at the ledger {str(path)!r}; free some space and run the same command")
    if code == sqlite3.SQLITE_NOTADB:
        return WorkspaceError(f"{str(path)!r} is no ledger; move it away, or set UNDERSTUDY_CACHE_DIR elsewhere")
    return WorkspaceError(f"the ledger {str(path)!r} cannot be used: {error}; check the folder and its permissions")
