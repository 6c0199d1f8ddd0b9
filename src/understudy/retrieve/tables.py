"""Any dataset as rows of text cells, a bounded number of them, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from understudy.errors import DataError
from understudy.retrieve.arrow import is_arrow, open_arrow
from understudy.retrieve.cells import cells
from understudy.retrieve.dataset_source import DatasetSource, read_sources
from understudy.sources import read

__all__ = ["ROWS_PER_DATASET", "DatasetSource", "Table", "TableRow", "cells_of", "read_sources"]

ROWS_PER_DATASET = 1_000


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row as text."""

    row: int  # its number in the source, from 0
    cells: tuple[tuple[str, str], ...]  # column and text; blank ones are left out


class Table:
    """The rows of a source that are taken: every k-th of n, with k = max(1, n // limit), and at most ``limit``.

    A source whose length is not known is read once to count its rows; each iteration reads it anew. A row that holds
    nothing is left out.

    Raises:
        DataError: the source cannot be read; at the end of an iteration: no column holds text, or a column that the
            settings name is not there.
        MissingPackage: a hub source without the datasets package.
    """

    def __init__(self, source: DatasetSource, limit: int | None = ROWS_PER_DATASET) -> None:
        self.source = source
        self.columns: dict[str, bool] = {}
        """The columns that were taken, and whether they hold more than numbers; whole after an iteration."""
        self.skipped: dict[str, str] = {}
        """The columns that hold no text, with what they hold; whole after an iteration."""
        self._left: set[str] = set()  # columns that the settings leave out
        self._said: str | None = None
        self._licence: str | None = None
        rows_in_source = self._look()
        if not rows_in_source:
            raise DataError(f"{source.place}: it holds no rows; check that it was written to its end")
        self._every = max(1, rows_in_source // limit) if limit else 1
        taken = -(-rows_in_source // self._every)
        self.rows = min(taken, limit) if limit else taken

    def _look(self) -> int:
        """How many rows the source has."""
        if not is_arrow(self.source):
            return sum(1 for _ in read(self.source))
        with open_arrow(self.source) as table:
            self._said, self._licence = table.description, table.licence
            return table.rows

    @property
    def name(self) -> str:
        return self.source.dataset

    @property
    def licence(self) -> str | None:
        return self.source.licence or self._licence

    @property
    def description(self) -> str:
        """The source's, else the hub's, else name and columns; whole after an iteration."""
        return self.source.description or self._said or f"{self.name}: {', '.join(self.columns)}"

    def __iter__(self) -> Iterator[TableRow]:
        records = self._of_arrow() if is_arrow(self.source) else self._of_lines()
        for row, fields, features in islice(records, self.rows):
            if found := tuple(self._cells(fields, features)):
                yield TableRow(row, found)
        self._check()

    def _of_lines(self) -> Iterator[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
        for row, fields in islice(read(self.source), 0, None, self._every):
            yield row, fields, {}

    def _of_arrow(self) -> Iterator[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
        with open_arrow(self.source) as table:
            no_text = table.no_text()
            for column, holds in no_text.items():
                self._skip(column, holds)
            if columns := [name for name in table.schema.names if name not in no_text]:
                for row, fields in table.read(columns, self._every):
                    yield row, fields, table.features

    def _cells(self, fields: Mapping[str, Any], features: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        of_row: set[str] = set()
        for name, value in fields.items():
            for cell in cells(name, value, features.get(name), self.source.labels, self._skip):
                if not self.source.takes(cell.column):
                    self._left.add(cell.column)
                    continue
                column = cell.column
                while column in of_row:  # a column "a.b" beside a map "a" that holds "b"
                    column += "'"
                of_row.add(column)
                self.columns[column] = self.columns.get(column, False) or not cell.is_number
                yield column, cell.text

    def _skip(self, column: str, holds: str) -> None:
        if self.source.takes(column):
            self.skipped.setdefault(column, holds)

    def _check(self) -> None:
        there = {*self.columns, *self.skipped}
        for setting in ("columns", "labels"):
            for named in getattr(self.source, setting) or ():
                if not any(f"{column}.".startswith(f"{named}.") for column in there):
                    known = ", ".join(sorted(there | self._left)) or "none"
                    raise DataError(f"{self.source.place}: {setting}: no row has a column {named!r}. Known: {known}")
        if not any(self.columns.values()):
            held = [f"{column!r} (numbers)" for column in self.columns]
            held += [f"{column!r} ({holds})" for column, holds in self.skipped.items()]
            raise DataError(f"{self.source.place}: no column holds text: {', '.join(held) or 'every value is blank'}")


def cells_of(source: DatasetSource, rows_per_dataset: int | None = ROWS_PER_DATASET) -> Iterator[TableRow]:
    """The rows of a source that are taken, as text, in its order; ``None`` takes every row.

    Raises:
        DataError, MissingPackage: as ``Table``.
    """
    return iter(Table(source, rows_per_dataset))
