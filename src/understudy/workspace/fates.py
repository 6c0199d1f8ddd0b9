"""What becomes of every id in one step, kept in a file: memory does not grow with the rows."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

_JOINED, _LEFT, _MADE = 1, 2, 4


class Fates:
    """A table of 64-bit hashes of ids: of an incoming one whether it left the step, was joined, or both."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._table = connection

    def expect(self, ids: Iterable[str]) -> int:
        """Ids come in; how many different ones."""
        self._table.executemany("INSERT OR IGNORE INTO fates VALUES (?, 0)", ((_hash_of(id),) for id in ids))
        return self._how_many("fate = 0")

    def is_first(self, id: str, parents: Collection[str]) -> bool:
        """Whether no row with this id was there before; an incoming one left, of a made one the parents joined."""
        number = _hash_of(id)
        is_new = self._table.execute(f"INSERT OR IGNORE INTO fates VALUES (?, {_MADE})", (number,)).rowcount
        if not is_new:
            (fate,) = self._table.execute("SELECT fate FROM fates WHERE id = ?", (number,)).fetchone()
            if not fate & _MADE:
                self._table.execute(f"UPDATE fates SET fate = fate | {_LEFT} WHERE id = ?", (number,))
                return not fate & _LEFT
        if parents:
            joined = ((_hash_of(parent),) for parent in parents)
            self._table.executemany(f"UPDATE fates SET fate = fate | {_JOINED} WHERE id = ?", joined)
        return bool(is_new)

    @property
    def lost(self) -> int:
        return self._how_many("fate = 0")

    @property
    def joined(self) -> int:
        return self._how_many(f"fate = {_JOINED}")

    def _how_many(self, which: str) -> int:
        return self._table.execute(f"SELECT count(*) FROM fates WHERE {which}").fetchone()[0]


@contextmanager
def fates_in(folder: Path) -> Iterator[Fates]:
    """A table in a file of the folder, which is gone afterwards. Raises: OSError: the disk is full."""
    file = folder / "fates.sqlite3"
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192"):  # KiB
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")  # nothing is written before the cache is full
            connection.execute("CREATE TABLE fates (id INTEGER PRIMARY KEY, fate INTEGER NOT NULL)")
            yield Fates(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, "no space left", str(file)) from None
        raise
    file.unlink()


def _hash_of(id: str) -> int:
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little", signed=True)
