"""The locked test split: no training row and no prompt row may hold one of its texts, nor be empty."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from understudy.records import Dropped, Example, Row, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUN = 5  # words
HALF_OF = 8  # words of a test input of which half of the runs are enough; of a shorter one all must be there


class TestSplit:
    """The normalised inputs of the test rows: a set of 8-byte digests, about 80 to 100 bytes a row.

    Args:
        rows: the test rows; read once more where near copies are looked for.
    """

    __test__ = False  # the name is no test for pytest

    def __init__(self, rows: Iterable[Example]) -> None:
        self._rows = tuple(rows) if iter(rows) is rows else rows
        self._texts = {_short(normalise(row.input)) for row in self._rows}

    def __contains__(self, text: str) -> bool:
        return _short(normalise(text)) in self._texts

    def near(self, text: str) -> bool:
        """Whether ``text`` equals a test input, or holds at least half of the 5-word runs of one of at least 8 words,
        or all of one of 5 to 7 words.

        Words are those of ``normalise``, so a script without spaces is compared as a whole only.
        """
        text = normalise(text)
        return _short(text) in self._texts or self._runs.held_by(text.split())

    @cached_property
    def _runs(self) -> _Runs:
        return _Runs.of(row.input for row in self._rows)


@dataclass(frozen=True)
class _Runs:
    """The runs of words of the test inputs: hash and row of each, by hash; 12 bytes a run.

    The hashes are Python's own, which no two processes share: they are only compared with one another.
    """

    hashes: NDArray[Any]  # int64 [runs], ascending
    rows: NDArray[Any]  # int32 [runs]
    enough: NDArray[Any]  # int32 [rows]: how many of the row's runs make a text near it

    @classmethod
    def of(cls, texts: Iterable[str]) -> _Runs:
        import numpy as np

        hashes, sizes, enough = array("q"), array("i"), array("i")
        for text in texts:
            words = normalise(text).split()
            runs = _runs_of(words)
            hashes.extend(runs)
            sizes.append(len(runs))
            enough.append(-(-len(runs) // 2) if len(words) >= HALF_OF else len(runs))
        found, counts = np.asarray(hashes, dtype=np.int64), np.asarray(sizes, dtype=np.int32)
        order, rows = np.argsort(found), np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        return cls(found[order], rows[order], np.asarray(enough, dtype=np.int32))

    def held_by(self, words: list[str]) -> bool:
        import numpy as np

        runs = np.fromiter(_runs_of(words), dtype=np.int64)
        first, last = (np.searchsorted(self.hashes, runs, side) for side in ("left", "right"))
        hits = [self.rows[a:b] for a, b in zip(first, last, strict=True) if a < b]
        if not hits:
            return False
        rows, counts = np.unique(np.concatenate(hits), return_counts=True)
        return bool((counts >= self.enough[rows]).any())


def _runs_of(words: list[str]) -> set[int]:
    return {hash(run) for run in zip(*(words[start:] for start in range(RUN)), strict=False)}


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


def _short(normalised: str) -> bytes:
    return blake2b(normalised.encode(), digest_size=8).digest()
