"""Rows in another order than they came in, or for two who read them, without holding them."""

from __future__ import annotations

import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from understudy.records import Dropped, Example, Row
from understudy.workspace.rows import _columns, _example


def most_frequent_first(rows: Iterable[Row], name_of: Callable[[Example], str], folder: Path) -> Iterator[Row]:
    """The rows of the most frequent name first, equal ones in the order of the names, rows of one as they came.

    Dropped ones go through. The others lie in the folder, which is made, until all are there; of each its place in the
    file stays in memory, 8 bytes. The file has no name, so a killed run leaves nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places: dict[str, array[int]] = {}
    with tempfile.TemporaryFile(dir=folder) as file:
        for row in rows:
            if isinstance(row, Dropped):
                yield row
            else:
                places.setdefault(name_of(row), array("Q")).append(file.tell())
                file.write(orjson.dumps(_columns(row)) + b"\n")
        for _, of_name in sorted(places.items(), key=lambda item: (-len(item[1]), item[0])):
            for place in of_name:
                file.seek(place)
                yield _example(orjson.loads(file.readline()))


def twice(
    rows: Iterable[Row], folder: Path, also: Callable[[Dropped], bool] = lambda row: False
) -> tuple[Iterator[Row], Iterator[Row]]:
    """The rows for two in one thread: without the dropped ones for one who reads ahead, and all for one who follows.

    What waits for one of them stays in memory; dropped rows lie in the folder meanwhile, which is made. The file has no
    name, so a killed run leaves nothing.

    Args:
        also: which dropped rows the first one gets nevertheless; they stay in memory too.
    """
    rows, between = iter(rows), _Between(folder)
    early = deque[Row]()  # the one who follows had them first

    def is_for_both(row: Row) -> bool:
        return isinstance(row, Example) or also(row)

    def ahead() -> Iterator[Row]:
        while True:
            if early:
                yield early.popleft()
            elif (row := next(rows, None)) is None:
                return
            elif is_for_both(row):
                between.held.append(row)
                yield row
            elif isinstance(row, Dropped):
                between.put(row)

    def behind() -> Iterator[Row]:
        while True:
            if between.held:
                yield from between.take()
            elif (row := next(rows, None)) is None:
                return
            else:
                early.extend([row] if is_for_both(row) else [])
                yield row

    return ahead(), behind()


class _Between:
    """Rows on their way from one reader to the other, dropped ones in a file."""

    def __init__(self, folder: Path) -> None:
        self.held: deque[Row | int] = deque()  # a number is so many rows of the file
        self._folder, self._file, self._read = folder, None, 0

    def put(self, row: Dropped) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file: Any = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  it goes with its rows
        self._file.seek(0, 2)
        self._file.write(orjson.dumps([_columns(row.example), row.step, row.reason, row.detail]) + b"\n")
        last = self.held[-1] if self.held else None
        if isinstance(last, int):
            self.held[-1] = last + 1
        else:
            self.held.append(1)

    def take(self) -> Iterator[Row]:
        """What came first: a row, or a run of dropped ones."""
        one = self.held.popleft()
        if not isinstance(one, int):
            yield one
            return
        for _ in range(one):
            self._file.seek(self._read)
            example, *why = orjson.loads(self._file.readline())
            self._read = self._file.tell()
            yield Dropped(_example(example), *why)
