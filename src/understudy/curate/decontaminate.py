"""The locked test split: no training row and no prompt row may hold one of its texts, nor be empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from understudy.records import Dropped, Example, Row, normalise


class TestSplit:
    """The normalised inputs of the test rows: a set of 8-byte digests, about 80 to 100 bytes a row."""

    __test__ = False  # the name is no test for pytest

    def __init__(self, rows: Iterable[Example]) -> None:
        self._texts = {_short(row.input) for row in rows}

    def __contains__(self, text: str) -> bool:
        return _short(text) in self._texts


def screen(rows: Iterable[Row], test: TestSplit, step: str) -> Iterator[Row]:
    """Drop each row whose normalised input equals a test row's (``in_test_split``) or is empty (``empty_input``)."""
    for row in rows:
        if isinstance(row, Dropped):
            yield row
        elif row.input in test:
            yield Dropped(row, step, "in_test_split", "its normalised input equals that of a test row")
        elif not row.input.strip():
            yield Dropped(row, step, "empty_input")
        else:
            yield row


def _short(text: str) -> bytes:
    return blake2b(normalise(text).encode(), digest_size=8).digest()
