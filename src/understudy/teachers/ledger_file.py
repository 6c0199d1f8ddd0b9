"""The ledger's file: its tables, how a reply becomes a row of it and back, and what SQLite's errors mean."""

from __future__ import annotations

import errno
import sqlite3
import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from understudy.errors import OutOfSpace, WorkspaceError
from understudy.teachers.request import KEY_TAG, Reply
from understudy.teachers.settings import Price

VERSION = 2
_LONG = 1024  # bytes from which compressing a text pays: about 17 us for 60 % of them
BUSY_S = 60.0  # how long is waited for another process that writes
_CHECKPOINT_PAGES = 16_000  # 64 MB of log between two checkpoints: each holds up who writes
_CACHE_KB = 8_000  # the index of 250,000 replies

_SCHEMA = (
    """
CREATE TABLE replies (
    key BLOB PRIMARY KEY,         -- digest of the request's content, 16 bytes
    teacher TEXT NOT NULL,        -- who answered, as in the request
    request BLOB NOT NULL,        -- canonical JSON; zlib where long
    text BLOB NOT NULL,           -- UTF-8; zlib where long
    raw BLOB NOT NULL,            -- what else the endpoint sent, JSON; zlib where long
    packed INTEGER NOT NULL,      -- what is zlib: 1 the request, 2 the text, 4 raw
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
""",
    """
CREATE TABLE failures (           -- attempts that brought nothing and may have been billed
    key BLOB NOT NULL,            -- of the request
    teacher TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    usd REAL,                     -- the most that it can have cost
    created REAL NOT NULL
)
""",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL)",  # what was found out about endpoints
)
_REFUSALS = """
CREATE TABLE IF NOT EXISTS refusals (  -- requests that their teacher refused for good, at no cost
    key BLOB PRIMARY KEY,
    teacher TEXT NOT NULL,
    request BLOB NOT NULL,             -- canonical JSON; zlib
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    created REAL NOT NULL              -- seconds since 1970, of the last time
)
"""
REPLY_COLUMNS = (
    "text, raw, packed, finish_reason, prompt_tokens, completion_tokens, usd, model, latency_s, attempts, recorded"
)
_ROW = f"({','.join('?' * 16)})"
_AT_ONCE = 60  # rows in one statement: SQLite binds at least 999 values


@dataclass(frozen=True, slots=True)
class Write:
    """One reply on its way into the file."""

    key: str
    content: bytes  # the request's
    teacher: str
    reply: Reply
    price: Price | None = None
    created: float | None = None  # seconds since 1970; now


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that brought nothing and may have been billed."""

    key: str
    teacher: str
    reason: str
    detail: str
    usd: float | None  # the most that it can have cost


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that its teacher refused for good. The teacher may be asked again; who may not ask is told this."""

    key: str
    content: bytes  # the request's
    teacher: str
    reason: str
    detail: str
    created: float | None = None  # seconds since 1970; now


def commit(
    connection: sqlite3.Connection, writes: Sequence[Write], others: Sequence[Failure | Refusal] = ()
) -> list[Reply]:
    """Store a group in one transaction; where a key was there before, the reply that is there."""
    now = time.time()
    rows = [_row(write, now) for write in writes]
    replies = [write.reply for write in writes]
    connection.execute("BEGIN IMMEDIATE")
    try:
        new = 0
        for start in range(0, len(rows), _AT_ONCE):  # each statement fights for the interpreter's lock
            some = rows[start : start + _AT_ONCE]
            sql = f"INSERT INTO replies VALUES {','.join([_ROW] * len(some))} ON CONFLICT (key) DO NOTHING"
            new += connection.execute(sql, list(chain.from_iterable(some))).rowcount
        if new != len(rows):
            replies = [_stored(connection, row[0]) for row in rows]
        connection.executemany(
            "INSERT INTO failures VALUES (?,?,?,?,?,?)",
            [(key_bytes(f.key), f.teacher, f.reason, f.detail, f.usd, now) for f in others if isinstance(f, Failure)],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO refusals VALUES (?,?,?,?,?,?)",
            [
                (key_bytes(r.key), r.teacher, zlib.compress(r.content), r.reason, r.detail, r.created or now)
                for r in others
                if isinstance(r, Refusal)
            ],
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise
    return replies


def _stored(connection: sqlite3.Connection, key: bytes) -> Reply:
    return reply_of(connection.execute(f"SELECT {REPLY_COLUMNS} FROM replies WHERE key = ?", (key,)).fetchone())


def _row(write: Write, now: float) -> tuple[Any, ...]:
    reply = write.reply
    request, request_packed = _pack(write.content)
    text, text_packed = _pack(reply.text.encode())
    raw, raw_packed = _pack(reply.raw)
    return (
        key_bytes(write.key),
        write.teacher,
        request,
        text,
        raw,
        request_packed + 2 * text_packed + 4 * raw_packed,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.usd,
        reply.model,
        reply.latency_s,
        reply.attempts,
        reply.recorded,
        write.price.model_dump_json(exclude_none=True) if write.price else None,
        write.created or now,
    )


def key_bytes(key: str) -> bytes:
    """A key as the file holds it; what is no key is nowhere in it.

    In bytes, because an index over them costs a commit two thirds of what one over the text would.
    """
    try:
        return bytes.fromhex(key.removeprefix(KEY_TAG))
    except ValueError:
        return b""


def key_text(key: bytes) -> str:
    """What ``key_bytes`` was given."""
    return KEY_TAG + key.hex()


def _pack(raw: bytes) -> tuple[bytes, int]:
    return (zlib.compress(raw, 1), 1) if len(raw) >= _LONG else (raw, 0)


def unpack(raw: bytes, is_packed: int) -> bytes:
    """What ``_pack`` was given."""
    return zlib.decompress(raw) if is_packed else raw


def reply_of(row: Sequence[Any]) -> Reply:
    """The reply in a row of REPLY_COLUMNS."""
    text, raw, packed, finish_reason, prompt, completion, usd, model, latency_s, attempts, recorded = row
    return Reply(
        unpack(text, packed & 2).decode(),
        finish_reason,
        prompt,
        completion,
        usd,
        model,
        latency_s,
        attempts,
        bool(recorded),
        unpack(raw, packed & 4),
    )


def connect(path: Path, *, is_synced: bool = True) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time.

    Its commits outlive a power cut, or with ``is_synced=False`` only once somebody has synced the log.
    """
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={'FULL' if is_synced else 'NORMAL'}")
    connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KB}")
    return connection


def prepare(path: Path) -> None:
    """Make the tables where there are none; two processes may try at once."""
    with closing(connect(path)) as connection:
        give_up = time.monotonic() + BUSY_S
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
        if version not in (0, VERSION):
            raise WorkspaceError(
                f"the ledger {str(path)!r} is of version {version}, this program knows {VERSION}; use the version of "
                "understudy that wrote it, or set UNDERSTUDY_CACHE_DIR to another folder"
            )
        if version == 0:
            for table in _SCHEMA:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute(_REFUSALS)  # not in the first ledgers of this version
        connection.execute("COMMIT")


class LedgerBusy(WorkspaceError):
    """Another process has been writing to the ledger for longer than was waited."""


def explain(error: Exception, path: Path) -> Exception:
    """The error of ours that an error of SQLite or of the file system amounts to."""
    if isinstance(error, WorkspaceError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return OutOfSpace(f"the disk is full at the ledger {str(path)!r}; free some space and run the same command")
    if code == sqlite3.SQLITE_BUSY:
        return LedgerBusy(f"another process has been writing to the ledger {str(path)!r} all the time; try again later")
    if code == sqlite3.SQLITE_NOTADB:
        return WorkspaceError(f"{str(path)!r} is no ledger; move it away, or set UNDERSTUDY_CACHE_DIR elsewhere")
    return WorkspaceError(f"the ledger {str(path)!r} cannot be used: {error}; check the folder and its permissions")
