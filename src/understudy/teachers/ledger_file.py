"""The ledger's file: its table, how a reply becomes a row of it and back, and what SQLite's errors mean."""

from __future__ import annotations

import errno
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.errors import OutOfSpace, WorkspaceError
from understudy.teachers.request import Reply, key_of
from understudy.teachers.settings import Price

VERSION = 1
_LONG = 512  # bytes from which compressing a text pays
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
REPLY_COLUMNS = (
    "text, packed, finish_reason, prompt_tokens, completion_tokens, usd, model, latency_s, attempts, recorded"
)


Committed = Callable[[list[tuple[Any, Reply]], Exception | None], None]
"""Called in the writer's thread once a commit with ``(token, stored reply)`` pairs, or with the error of all."""


@dataclass(frozen=True, slots=True)
class Write:
    """One reply on its way into the file, and who is to be told."""

    content: bytes  # the request's
    teacher: str
    reply: Reply
    price: Price | None
    token: Any
    committed: Committed


def commit(connection: sqlite3.Connection, group: list[Write]) -> list[Reply]:
    """Store a group in one transaction; where a key was there before, the reply that is there."""
    rows = [_row(write) for write in group]
    insert = f"INSERT INTO replies VALUES ({','.join('?' * len(rows[0]))}) ON CONFLICT (key) DO NOTHING"
    replies = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for row, write in zip(rows, group, strict=True):
            if connection.execute(insert, row).rowcount == 1:
                replies.append(write.reply)
            else:
                earlier = connection.execute(f"SELECT {REPLY_COLUMNS} FROM replies WHERE key = ?", (row[0],))
                replies.append(reply_of(earlier.fetchone()))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise
    return replies


def _row(write: Write) -> tuple[Any, ...]:
    reply = write.reply
    request, request_packed = _pack(write.content)
    text, text_packed = _pack(reply.text.encode())
    return (
        key_of(write.content),
        write.teacher,
        request,
        text,
        request_packed + 2 * text_packed,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.usd,
        reply.model,
        reply.latency_s,
        reply.attempts,
        reply.recorded,
        write.price.model_dump_json() if write.price else None,
        time.time(),
    )


def _pack(raw: bytes) -> tuple[bytes, int]:
    return (zlib.compress(raw, 1), 1) if len(raw) >= _LONG else (raw, 0)


def unpack(raw: bytes, is_packed: int) -> bytes:
    """What ``_pack`` was given."""
    return zlib.decompress(raw) if is_packed else raw


def reply_of(row: Sequence[Any]) -> Reply:
    """The reply in a row of REPLY_COLUMNS."""
    text, packed, finish_reason, prompt_tokens, completion_tokens, usd, model, latency_s, attempts, recorded = row
    return Reply(
        text=unpack(text, packed & 2).decode(),
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        usd=usd,
        model=model,
        latency_s=latency_s,
        attempts=attempts,
        recorded=bool(recorded),
    )


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits outlive a power cut; any thread may use it, one at a time."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


def prepare(path: Path) -> None:
    """Make the table where there is none; two processes may try at once."""
    with closing(connect(path)) as connection:
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


def explain(error: Exception, path: Path) -> Exception:
    """The error of ours that an error of SQLite or of the file system amounts to."""
    if isinstance(error, WorkspaceError):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC:
        return OutOfSpace(f"the disk is full at the ledger {str(path)!r}; free some space and run the same command")
    if code == sqlite3.SQLITE_NOTADB:
        return WorkspaceError(f"{str(path)!r} is no ledger; move it away, or set UNDERSTUDY_CACHE_DIR elsewhere")
    return WorkspaceError(f"the ledger {str(path)!r} cannot be used: {error}; check the folder and its permissions")
