"""Rows in another order than they came in, without holding them."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

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
