"""Sentences in a random order that needs no memory: sorted by a keyed hash of their place, through buckets on disk."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from understudy.corpus.sentences import Sentence
from understudy.records import Dropped, digest
from understudy.workspace.files import disk_errors

KEY = 18  # hexadecimal digits
DIGITS = 3  # of the key name a bucket: 4,096 of them


def shuffled(
    sentences: Iterable[Sentence | Dropped], seed: int, folder: Path, memory_bytes: int = 1 << 24
) -> Iterator[Sentence | Dropped]:
    """The sentences in an order that the seed and their places decide, and nothing else. Dropped ones go through first.

    The text lies once, with its place, under ``folder / "shuffle"`` while this runs; what a killed run left there is
    taken away, and the next run gives the same order from its beginning. Two runs cannot share a folder.

    Args:
        memory_bytes: how much text is held at once, when it is written and when a bucket is sorted.

    Raises:
        OutOfSpace, WorkspaceError: the folder cannot be written.
    """
    place = folder / "shuffle"
    shutil.rmtree(place, ignore_errors=True)
    try:
        buckets = _Buckets(place, memory_bytes)
        for one in sentences:
            if isinstance(one, Dropped):
                yield one
            else:
                buckets.add(_line(one, seed))
        for line in buckets.emptied():
            yield Sentence(*orjson.loads(line[KEY:]))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _line(one: Sentence, seed: int) -> bytes:
    key = digest(str(seed), one.row, str(one.number), size=KEY // 2).encode()
    return key + orjson.dumps([one.text, one.row, one.number]) + b"\n"


class _Buckets:
    """Lines on disk, by digits of their keys. A bucket that is too large to sort is spread by the next digits."""

    def __init__(self, folder: Path, memory_bytes: int, depth: int = 0) -> None:
        self.folder, self.memory_bytes, self.depth = folder, memory_bytes, depth
        self.held: defaultdict[str, list[bytes]] = defaultdict(list)
        self.held_bytes = 0

    def add(self, line: bytes) -> None:
        start = DIGITS * self.depth
        self.held[line[start : start + DIGITS].decode()].append(line)
        self.held_bytes += len(line)
        if self.held_bytes >= self.memory_bytes:
            self.flush()

    def flush(self) -> None:
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for digits, lines in self.held.items():
                with (self.folder / digits).open("ab") as file:
                    file.writelines(lines)
        self.held.clear()
        self.held_bytes = 0

    def emptied(self) -> Iterator[bytes]:
        """All lines in the order of their keys; each bucket is taken away."""
        self.flush()
        for bucket in sorted(self.folder.iterdir()):
            if bucket.stat().st_size <= self.memory_bytes or DIGITS * (self.depth + 1) == KEY:
                with bucket.open("rb") as file:
                    lines = sorted(file)
                bucket.unlink()
                yield from lines
                del lines  # or it would stay until the next bucket is sorted
            else:
                yield from self._spread(bucket)

    def _spread(self, bucket: Path) -> Iterator[bytes]:
        folder = bucket.with_name(f"{bucket.name}.parts")
        inner = _Buckets(folder, self.memory_bytes, self.depth + 1)
        with bucket.open("rb") as file:
            for line in file:
                inner.add(line)
        bucket.unlink()
        yield from inner.emptied()
        folder.rmdir()
