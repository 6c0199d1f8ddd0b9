"""The rows of a datastore that lie nearest to a task, by the published score of ReBase (arXiv 2407.05463).

A task is an instruction and a few examples. The score of a row is the mean of three parts:

    input         the highest, over the row's cells, of: the mean over the examples of cos(example's input, cell)
    output        the same with the examples' outputs; its best cell may be another one
    description   cos(instruction, description of the row's dataset)

The mean over examples is linear, so that every text of the store meets one averaged input and one averaged output.
Every text is scored, none is left out by an index: first all of them in float32, then in float64 the rows that may be
among the best. Sums in float64 run in one order for every row, so that equal rows have equal scores wherever they lie.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from understudy.errors import DataError, SettingsError
from understudy.settings import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from understudy.retrieve.datastore import Dataset, Datastore, StoredRow
    from understudy.retrieve.encoder import Encoder

BLOCK = 4096  # texts a product: as float32 they stay in the processor's cache
MARGIN = 1e-5  # over what a float32 score of unit vectors can be off; measured 1e-7


@dataclass(frozen=True)
class Query:
    """What rows are looked for."""

    instruction: str
    examples: tuple[tuple[str, str], ...]
    """Input and output of each."""


@dataclass(frozen=True)
class Found:
    """A row of the store, with the part that each of its two best cells had in its score."""

    dataset: str
    description: str
    licence: str | None
    row: int
    """Its number in its source."""
    cells: tuple[tuple[str, str], ...]
    """Column and text."""
    input_column: str
    """Of the cell nearest to the examples' inputs; of equal ones the first."""
    output_column: str
    score: float
    parts: tuple[float, float, float]
    """Best input, best output, description."""


class Target(NamedTuple):
    """A query as vectors."""

    vectors: np.ndarray
    """float64 (3, width): the mean of the inputs, the mean of the outputs, the instruction."""
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


def search(
    store: Datastore,
    encoder: Encoder,
    query: Query,
    k: int,
    *,
    per_dataset: int | None = None,
    exclude: Sequence[str] = (),
    weights: tuple[float, float, float] = (1, 1, 1),
    leaks: Callable[[str], bool] | None = None,
) -> list[Found]:
    """The ``k`` best rows, best first; equal scores by dataset name, then by row. Fewer where the store has fewer.

    Args:
        per_dataset: take at most so many rows of one dataset.
        exclude: names of datasets to leave out.
        weights: of the three parts of the score.
        leaks: asked about the cells of each row that would be taken; a row with a cell that leaks is passed over.

    Raises:
        DataError: another encoder built the store.
        SettingsError: an excluded dataset is not in the store, or a number is out of its range.
    """
    if k < 1 or (per_dataset is not None and per_dataset < 1):
        raise SettingsError(f"k and per_dataset are 1 or more, not {k!r} and {per_dataset!r}")
    if store.encoder_identity != encoder.identity:
        raise DataError(
            f"the datastore was built by the encoder {store.encoder_name!r} ({store.encoder_identity[:12]}), which is "
            f"not {encoder.name!r} ({encoder.identity[:12]}): search with that encoder, or build the store anew"
        )
    datasets = _without(store.datasets, exclude)
    target = target_of(encoder, query, weights)
    starts = starts_of(datasets)
    scores = score_rows(datasets, target)
    room = np.full(len(datasets), per_dataset or k)
    found: list[Found] = []
    while len(found) < k:
        eligible = scores if per_dataset is None else _within_room(scores, starts, room)
        nearest = best_rows(datasets, starts, eligible, target, k - len(found))
        if not len(nearest.places):
            break
        for number, one in _read(datasets, starts, nearest):
            if room[number] and not (leaks and any(leaks(text) for _, text in one.cells)):
                found.append(one)
                room[number] -= 1
        scores[nearest.places] = -np.inf  # they had their turn
        for number in np.flatnonzero(room == 0):
            scores[starts[number] : starts[number + 1]] = -np.inf
    return sorted(found, key=lambda one: (-one.score, one.dataset, one.row))


def target_of(encoder: Encoder, query: Query, weights: tuple[float, float, float] = (1, 1, 1)) -> Target:
    """The query as vectors.

    Raises:
        SettingsError: it has no example, or the weights are no weights.
    """
    if not query.examples:
        raise SettingsError(
            "a query needs one example at least: rows are compared with the examples' inputs and outputs"
        )
    if min(weights) < 0 or not sum(weights) > 0:
        raise SettingsError(
            f"the weights of input, output and description are 0 or more, one of them over 0: {weights!r}"
        )
    inputs, outputs = zip(*query.examples, strict=True)
    vectors = encoder.encode([query.instruction, *inputs, *outputs]).astype(np.float64)
    means = vectors[1 : 1 + len(inputs)].mean(axis=0), vectors[1 + len(inputs) :].mean(axis=0)
    return Target(np.stack([*means, vectors[0]]), np.array(weights, np.float64) / sum(weights))


def starts_of(datasets: Sequence[Dataset]) -> np.ndarray:
    """int64 (datasets + 1): the place of each dataset's first row among the rows of all."""
    return np.cumsum([0, *(dataset.rows for dataset in datasets)])


def score_rows(datasets: Sequence[Dataset], target: Target) -> np.ndarray:
    """The score of every row of the datasets in turn: float32 (rows,), off by less than ``MARGIN``."""
    import torch

    queries = torch.from_numpy(target.vectors[:2].T.astype(np.float32))
    block = torch.empty(BLOCK, len(queries))
    scores = np.empty(sum(dataset.rows for dataset in datasets), np.float32)
    start = 0
    for dataset in datasets:
        cosines, cells, firsts = _cosines(dataset, queries, block), dataset.cell_texts(), dataset.offsets()[:-1]
        rows = scores[start : start + dataset.rows]
        rows[:] = target.weights[2] * _dots(dataset.description_vector(), target.vectors[2])
        for part in range(2):
            rows += np.float32(target.weights[part]) * np.maximum.reduceat(cosines[:, part][cells], firsts)
        start += dataset.rows
    return scores


def best_rows(
    datasets: Sequence[Dataset], starts: np.ndarray, scores: np.ndarray, target: Target, many: int
) -> Nearest:
    """The ``many`` best of the rows whose ``scores`` are finite, scored once more in float64."""
    places = np.flatnonzero((scores >= _least(scores, many)) & np.isfinite(scores))
    parts, best_cells = np.empty((len(places), 3)), np.empty((len(places), 2), np.int64)
    for number, here in _by_dataset(starts, places):
        dataset, rows = datasets[number], places[here] - starts[number]
        parts[here, :2], best_cells[here] = _best_cells(dataset, rows, target)
        parts[here, 2] = _dots(dataset.description_vector(), target.vectors[2])
    exact = (parts * target.weights).sum(axis=1)
    order = np.lexsort((places, -exact))[:many]
    return Nearest(places[order], exact[order], parts[order], best_cells[order])


def _without(datasets: Sequence[Dataset], exclude: Sequence[str]) -> list[Dataset]:
    known = [dataset.name for dataset in datasets]
    for name in exclude:
        if name not in known:
            raise SettingsError(f"exclude: no dataset {name!r} in the datastore. {did_you_mean(name, known)}")
    return [dataset for dataset in datasets if dataset.name not in exclude]


def _cosines(dataset: Dataset, queries: Tensor, block: Tensor) -> np.ndarray:
    """Of every text of the dataset with both queries: float32 (texts, 2)."""
    import torch

    with warnings.catch_warnings(action="ignore"):  # that the map is read-only, and so are we
        vectors = torch.from_numpy(dataset.vectors())
    cosines = torch.empty(len(vectors), 2)
    for some, out in zip(vectors.split(len(block)), cosines.split(len(block)), strict=True):
        torch.mm(block[: len(some)].copy_(some), queries, out=out)
    return cosines.numpy()


def _best_cells(dataset: Dataset, rows: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the best input and the best output in float64 (rows, 2), and which of its cells they are."""
    offsets = dataset.offsets()
    counts = offsets[rows + 1] - offsets[rows]
    firsts = np.cumsum(counts) - counts
    numbers = np.arange(counts.sum())
    texts, text_of = np.unique(
        dataset.cell_texts()[numbers + np.repeat(offsets[rows] - firsts, counts)], return_inverse=True
    )
    vectors = dataset.vectors()
    cosines = np.concatenate(
        [_dots(vectors[texts[i : i + BLOCK], None], target.vectors[:2]) for i in range(0, len(texts), BLOCK)]
    )[text_of]
    best = np.maximum.reduceat(cosines, firsts)
    is_best = cosines == np.repeat(best, counts, axis=0)
    first_best = np.minimum.reduceat(np.where(is_best, numbers[:, None], len(numbers)), firsts)
    return best, first_best - firsts[:, None]


def _dots(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """In float64 and one order of summing, which a product of matrices does not promise."""
    return (vectors.astype(np.float64) * queries).sum(axis=-1)


def _least(scores: np.ndarray, many: int) -> float:
    """What a row must have in float32 to be perhaps one of the ``many`` best."""
    if many >= len(scores):
        return -np.inf
    return np.partition(scores, len(scores) - many)[len(scores) - many] - 2 * MARGIN


def _within_room(scores: np.ndarray, starts: np.ndarray, room: np.ndarray) -> np.ndarray:
    """A copy of the scores without the rows of each dataset for which it has no room."""
    scores = scores.copy()
    for number in np.flatnonzero((room > 0) & (np.diff(starts) > room)):
        mine = scores[starts[number] : starts[number + 1]]
        mine[mine < _least(mine, room[number])] = -np.inf
    return scores


def _by_dataset(starts: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of each dataset that has one of the places, and which of the places those are, in their order."""
    numbers = np.searchsorted(starts, places, side="right") - 1
    for number in np.unique(numbers):
        yield int(number), np.flatnonzero(numbers == number)


def _read(datasets: Sequence[Dataset], starts: np.ndarray, nearest: Nearest) -> list[tuple[int, Found]]:
    """Each row as it is found, with its dataset's number, in the order given."""
    made: dict[int, tuple[int, Found]] = {}
    for number, here in _by_dataset(starts, nearest.places):
        dataset = datasets[number]
        stored = dataset.fetch((nearest.places[here] - starts[number]).tolist())
        for index, row in zip(here.tolist(), stored, strict=True):
            made[index] = number, _found(dataset, row, nearest, index)
    return [made[index] for index in range(len(made))]


def _found(dataset: Dataset, row: StoredRow, nearest: Nearest, index: int) -> Found:
    best_input, best_output = nearest.best_cells[index].tolist()
    return Found(
        dataset=dataset.name,
        description=dataset.description,
        licence=dataset.licence,
        row=row.row,
        cells=row.cells,
        input_column=row.cells[best_input][0],
        output_column=row.cells[best_output][0],
        score=float(nearest.scores[index]),
        parts=tuple(nearest.parts[index].tolist()),
    )
