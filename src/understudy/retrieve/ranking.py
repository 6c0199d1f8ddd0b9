"""Rows by their score, whatever scores the texts: all of them roughly, then those that may be among the best exactly.

The score of a row is the weighted mean of three parts: its best cell as an input, its best cell as an output, the
description of its dataset. Every text is scored, none is left out by an index. The exact scores of equal texts are
equal, so that equal rows have equal scores wherever they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from understudy.retrieve.datastore import Dataset

MARGIN = 1e-5  # over what a float32 score can be off; measured 1e-7


class Scorer(Protocol):
    """Compares the store with one query; no score is far over 1."""

    def texts(self, dataset: Dataset) -> np.ndarray:
        """float32 (texts, 2): each text of the dataset as an input and as an output."""
        ...

    def exactly(self, dataset: Dataset, texts: np.ndarray) -> np.ndarray:
        """float64 (len(texts), 2): the same of the texts with these numbers."""
        ...

    def description(self, dataset: Dataset) -> float:
        """The dataset's description beside the instruction."""
        ...


class Target(NamedTuple):
    """What rows are scored by."""

    scorer: Scorer
    weights: np.ndarray
    """float64 (3,): of the three parts, 1 together."""


class Nearest(NamedTuple):
    """Rows, best first; of equal ones the lower place first."""

    places: np.ndarray
    """int64 (rows,): the row's number among all rows of all datasets."""
    scores: np.ndarray
    """float64 (rows,)."""
    parts: np.ndarray
    """float64 (rows, 3)."""
    best_cells: np.ndarray
    """int64 (rows, 2): which of the row's cells is the best input, and which the best output."""


def starts_of(datasets: Sequence[Dataset]) -> np.ndarray:
    """int64 (datasets + 1): the place of each dataset's first row among the rows of all."""
    return np.cumsum([0, *(dataset.rows for dataset in datasets)])


def score_rows(datasets: Sequence[Dataset], target: Target) -> np.ndarray:
    """The score of every row of the datasets in turn: float32 (rows,), off by less than ``MARGIN``."""
    scores = np.empty(sum(dataset.rows for dataset in datasets), np.float32)
    start = 0
    for dataset in datasets:
        texts, cells, firsts = target.scorer.texts(dataset), dataset.cell_texts(), dataset.offsets()[:-1]
        rows = scores[start : start + dataset.rows]
        rows[:] = target.weights[2] * target.scorer.description(dataset)
        for part in range(2):
            rows += np.float32(target.weights[part]) * np.maximum.reduceat(texts[:, part][cells], firsts)
        start += dataset.rows
    return scores


def best_rows(
    datasets: Sequence[Dataset], starts: np.ndarray, scores: np.ndarray, target: Target, many: int
) -> Nearest:
    """The ``many`` best of the rows whose ``scores`` are finite, scored once more in float64."""
    places = np.flatnonzero((scores >= _least(scores, many)) & np.isfinite(scores))
    parts, best_cells = np.empty((len(places), 3)), np.empty((len(places), 2), np.int64)
    for number, here in by_dataset(starts, places):
        dataset, rows = datasets[number], places[here] - starts[number]
        parts[here, :2], best_cells[here] = _best_cells(dataset, rows, target)
        parts[here, 2] = target.scorer.description(dataset)
    exact = (parts * target.weights).sum(axis=1)
    order = np.lexsort((places, -exact))[:many]
    return Nearest(places[order], exact[order], parts[order], best_cells[order])


def within_room(scores: np.ndarray, starts: np.ndarray, room: np.ndarray) -> np.ndarray:
    """A copy of the scores without the rows of each dataset for which it has no room."""
    scores = scores.copy()
    for number in np.flatnonzero((room > 0) & (np.diff(starts) > room)):
        mine = scores[starts[number] : starts[number + 1]]
        mine[mine < _least(mine, room[number])] = -np.inf
    return scores


def by_dataset(starts: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each dataset that has one of the places, and which of the places those are, in their order."""
    numbers = np.searchsorted(starts, places, side="right") - 1
    for number in np.unique(numbers):
        yield int(number), np.flatnonzero(numbers == number)


def _best_cells(dataset: Dataset, rows: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the best input and the best output in float64 (rows, 2), and which of its cells they are."""
    offsets = dataset.offsets()
    counts = offsets[rows + 1] - offsets[rows]
    firsts = np.cumsum(counts) - counts
    numbers = np.arange(counts.sum())
    texts, text_of = np.unique(
        dataset.cell_texts()[numbers + np.repeat(offsets[rows] - firsts, counts)], return_inverse=True
    )
    scores = target.scorer.exactly(dataset, texts)[text_of]
    best = np.maximum.reduceat(scores, firsts)
    is_best = scores == np.repeat(best, counts, axis=0)
    first_best = np.minimum.reduceat(np.where(is_best, numbers[:, None], len(numbers)), firsts)
    return best, first_best - firsts[:, None]


def _least(scores: np.ndarray, many: int) -> float:
    """What a row must have in float32 to be perhaps one of the ``many`` best."""
    if many >= len(scores):
        return -np.inf
    return np.partition(scores, len(scores) - many)[len(scores) - many] - 2 * MARGIN
