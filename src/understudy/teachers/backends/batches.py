"""What was sent as batches and is not answered yet, in tables of the ledger's file: it outlives every run.

A batch stands here before its requests leave, and each of its requests until its reply is in the ledger.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from understudy.teachers.budget import Spending
from understudy.teachers.ledger_file import connect, explain

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,          -- ours; the provider keeps it too, so that a batch is found whose own id was lost
    place TEXT NOT NULL,          -- where and of whom it was asked; nothing secret
    file_id TEXT,                 -- the provider's, once the requests are there
    batch_id TEXT,                -- the provider's, once the batch is made
    missed INTEGER NOT NULL,      -- a run has said what is lost of it: the next one asks for that again
    created REAL NOT NULL         -- seconds since 1970
)
""",
    """
CREATE TABLE IF NOT EXISTS batch_requests (
    place TEXT NOT NULL,
    key TEXT NOT NULL,            -- as in the ledger
    batch TEXT NOT NULL,
    request BLOB NOT NULL,        -- canonical JSON
    bill TEXT,                    -- what a budget has counted for it, and whose: [payer, usd, tokens]
    UNIQUE (place, key)           -- no request is in two batches
)
""",
    "CREATE INDEX IF NOT EXISTS requests_of_a_batch ON batch_requests (batch, key)",
)
_BILLS = "ALTER TABLE batch_requests ADD COLUMN bill TEXT"  # in a file of before there were bills
_SOME = 500  # values that SQLite surely binds


Claimed: TypeAlias = tuple[str, bytes, tuple[str, Spending] | None]
"""A request's key and content, and whose budget has set how much aside for it."""


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that is not done with."""

    id: str  # ours
    file_id: str | None
    batch_id: str | None
    missed: bool  # a run has said what is lost of it: the next one asks for that again
    created: float  # seconds since 1970


class Batches:
    """The tables. Any thread may use them; a call returns when what it wrote outlives a power cut.

    Raises:
        WorkspaceError: every method may; the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection = connect(path)
        with self._transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
            if "bill" not in {name for _, name, *_ in connection.execute("PRAGMA table_info(batch_requests)")}:
                connection.execute(_BILLS)

    def bills(self, place: str, payer: str) -> dict[str, Spending]:
        """The most that each of this payer's requests in batches can cost, by key."""
        with self._transaction("DEFERRED") as connection:
            sql = "SELECT key, bill FROM batch_requests WHERE place = ? AND bill IS NOT NULL"
            rows = connection.execute(sql, (place,)).fetchall()
        told = ((key, *orjson.loads(bill)) for key, bill in rows)
        return {key: Spending(usd, tokens, 1) for key, whose, usd, tokens in told if whose == payer}

    def claim(self, place: str, batch: str, requests: Iterable[Claimed]) -> set[str]:
        """Enter a batch with all of the requests that are in no other one.

        Returns:
            The keys that are; where there are none, there is no batch either.
        """
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO batch_requests (place, key, batch, request, bill) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                ((place, key, batch, content, _json(bill)) for key, content, bill in requests),
            )
            keys = {key for (key,) in connection.execute("SELECT key FROM batch_requests WHERE batch = ?", (batch,))}
            if keys:
                row = (batch, place, time.time())
                connection.execute("INSERT INTO batches VALUES (?, ?, NULL, NULL, FALSE, ?)", row)
        return keys

    def holders(self, place: str, keys: Sequence[str]) -> dict[str, str]:
        """Which batch each of these requests is in, where it is in one."""
        return dict(self._select("SELECT key, batch FROM batch_requests WHERE key IN (?) AND place = ?", keys, place))

    def contents(self, batch: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these requests that the batch holds."""
        return dict(self._select("SELECT key, request FROM batch_requests WHERE key IN (?) AND batch = ?", keys, batch))

    def requests(self, batch: str) -> Iterator[tuple[str, bytes]]:
        """Key and content of every request of a batch."""
        with closing(connect(self._path)) as connection:  # the other one is for short questions
            yield from connection.execute("SELECT key, request FROM batch_requests WHERE batch = ?", (batch,))

    def uploaded(self, batch: str, file_id: str) -> None:
        """Note the provider's name of a batch's file."""
        with self._transaction() as connection:
            connection.execute("UPDATE batches SET file_id = ? WHERE id = ?", (file_id, batch))

    def made(self, batch: str, batch_id: str) -> None:
        """Note the provider's name of a batch."""
        with self._transaction() as connection:
            connection.execute("UPDATE batches SET batch_id = ? WHERE id = ?", (batch_id, batch))

    def miss(self, batch: str, *, is_missed: bool = True) -> None:
        """Note that a run has said what is lost of a batch, or that it is there again."""
        with self._transaction() as connection:
            connection.execute("UPDATE batches SET missed = ? WHERE id = ?", (is_missed, batch))

    def open(self, place: str) -> list[OpenBatch]:
        """The batches that are not done with, oldest first."""
        sql = "SELECT id, file_id, batch_id, missed, created FROM batches WHERE place = ? ORDER BY created"
        with self._transaction("DEFERRED") as connection:
            return [OpenBatch(*row) for row in connection.execute(sql, (place,))]

    def done(self, batch: str, keys: Iterable[str]) -> None:
        """Forget requests of a batch."""
        with self._transaction() as connection:
            connection.executemany(
                "DELETE FROM batch_requests WHERE batch = ? AND key = ?", ((batch, key) for key in keys)
            )

    def drop(self, batch: str) -> list[str]:
        """Forget a batch and all of its requests, whose keys are returned."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT key FROM batch_requests WHERE batch = ?", (batch,)).fetchall()
            connection.execute("DELETE FROM batch_requests WHERE batch = ?", (batch,))
            connection.execute("DELETE FROM batches WHERE id = ?", (batch,))
        return [key for (key,) in rows]

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _select(self, sql: str, keys: Sequence[str], last: str) -> Iterator[tuple[Any, Any]]:
        for start in range(0, len(keys), _SOME):
            some = keys[start : start + _SOME]
            marks = ",".join("?" * len(some))
            with self._transaction("DEFERRED") as connection:
                rows = connection.execute(sql.replace("(?)", f"({marks})"), (*some, last)).fetchall()
            yield from rows

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """One transaction; one that only reads is DEFERRED, and waits for nobody who writes."""
        try:
            with self._lock:
                self._connection.execute(f"BEGIN {kind}")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise explain(error, self._path) from None


def _json(bill: tuple[str, Spending] | None) -> str | None:
    return orjson.dumps([bill[0], bill[1].usd, bill[1].tokens]).decode() if bill else None
