"""The locked test split: no training row and no prompt row may hold one of its texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from understudy.records import Dropped, Example, Row, normalise


class TestSplit:
    """The normalised inputs of the test rows, 8 bytes each."""

    __test__ = False  # the name is no test for pytest

    def __init__(self, rows: Iterable[Example]) -> None:
        self._texts = {_short(row.input) for row in rows}

    def __contains__(self, text: str) -> bool:
        return _short(text) in self._texts


def keep_out(rows: Iterable[Row], test: TestSplit, step: str) -> Iterator[Row]:
    """Drop every row whose normalised input equals a test row's, as ``in_test_split``."""
    for row in rows:
        if isinstance(row, Example) and row.input in test:
            yield Dropped(row, step, "in_test_split", "its normalised input equals that of a test row")
        else:
            yield row


def _short(text: str) -> bytes:
    return blake2b(normalise(text).encode(), digest_size=8).digest()
