"""The rows of a datastore that lie nearest to a task, by the published score of ReBase (arXiv 2407.05463).

A task is an instruction and a few examples. The score of a row is the mean of three parts:

    input         the highest, over the row's cells, of: the mean over the examples of cos(example's input, cell)
    output        the same with the examples' outputs; its best cell may be another one
    description   cos(instruction, description of the row's dataset)

In a store of the encoder ``bm25``, which has no vectors, BM25 takes the place of the cosine: see ``bm25.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.retrieve.ranking import Nearest, Target, best_rows, by_dataset, score_rows, starts_of, within_room
from understudy.settings import did_you_mean
from understudy.task import Task

if TYPE_CHECKING:
    from understudy.retrieve.datastore import Dataset, Datastore, StoredRow
    from understudy.retrieve.encoder import Encoder
    from understudy.retrieve.ranking import Scorer


@dataclass(frozen=True)
class Query:
    """What rows are looked for."""

    instruction: str
    examples: tuple[tuple[str, str], ...]
    """Input and output of each."""

    @classmethod
    def of(cls, task: Task, shots: Iterable[Example]) -> Query:
        """A task with solved rows; of several labels all count, of several references the first."""
        most = None if task.kind == "multilabel" else 1
        return cls(task.instruction, tuple((shot.input, ", ".join(shot.answers[:most])) for shot in shots))


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
        leaks: asked about the cells of each row that would be taken, one by one and all together, as a task's input
            may be made of several; a row that leaks is passed over.

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
    datasets = without(store, exclude)
    target = target_of(store, encoder, query, weights)
    starts = starts_of(datasets)
    scores = score_rows(datasets, target)
    room = np.full(len(datasets), per_dataset or k)
    found: list[Found] = []
    ahead = 1  # times as many rows are looked at as are wanted: twice as many each time that too many leaked
    while len(found) < k:
        asked = room * ahead
        eligible = scores if per_dataset is None else within_room(scores, starts, asked)
        nearest = best_rows(datasets, starts, eligible, target, (k - len(found)) * ahead)
        if not len(nearest.places):
            break
        seen = np.zeros(len(datasets), np.int64)
        for number, one in _read(datasets, starts, nearest):
            seen[number] += 1
            if len(found) < k and room[number] and not (leaks and any(map(leaks, _texts_of(one)))):
                found.append(one)
                room[number] -= 1
            if per_dataset and room[number] and seen[number] >= asked[number]:
                break  # its next row is not among these, and may be better than those after
        scores[nearest.places[: seen.sum()]] = -np.inf  # they had their turn
        ahead *= 2
        for number in np.flatnonzero(room == 0):
            scores[starts[number] : starts[number + 1]] = -np.inf
    return sorted(found, key=lambda one: (-one.score, one.dataset, one.row))


def target_of(
    store: Datastore, encoder: Encoder, query: Query, weights: tuple[float, float, float] = (1, 1, 1)
) -> Target:
    """What the rows of the store are scored by.

    Raises:
        SettingsError: the query has no example, or the weights are no weights.
    """
    if not query.examples:
        raise SettingsError(
            "a query needs one example at least: rows are compared with the examples' inputs and outputs"
        )
    _check_weights(weights)
    return Target(_scorer(store, encoder, query), np.array(weights, np.float64) / sum(weights))


def checked(path: str, exclude: Sequence[str], weights: tuple[float, float, float]) -> Datastore:
    """The store, if it can be searched so: to be known before anything is paid for.

    Raises:
        DataError: there is no store.
        SettingsError: as ``search``.
    """
    from understudy.retrieve.datastore import Datastore

    store = Datastore.open(path)
    without(store, exclude)
    _check_weights(weights)
    return store


def _check_weights(weights: tuple[float, float, float]) -> None:
    if min(weights) < 0 or not sum(weights) > 0:
        raise SettingsError(f"weights: those of input, output and description are 0 or more, one over 0: {weights!r}")


def without(store: Datastore, exclude: Sequence[str]) -> list[Dataset]:
    """The store's datasets but for those of these names.

    Raises:
        SettingsError: a name is none of the store's, or no dataset is left.
    """
    known = [dataset.name for dataset in store.datasets]
    for name in exclude:
        if name not in known:
            raise SettingsError(f"exclude: no dataset {name!r} in {store.path}. {did_you_mean(name, known)}")
    if known and not set(known) - set(exclude):
        raise SettingsError(f"exclude: no dataset of {store.path} is left; take a name out of the list")
    return [dataset for dataset in store.datasets if dataset.name not in exclude]


def _texts_of(found: Found) -> list[str]:
    texts = [text for _, text in found.cells]
    return [*texts, "\n".join(texts)] if len(texts) > 1 else texts


def _scorer(store: Datastore, encoder: Encoder, query: Query) -> Scorer:
    if encoder.width:
        from understudy.retrieve.cosine import cosines_of

        return cosines_of(encoder, query)
    from understudy.retrieve.bm25 import matches_of

    return matches_of(store, query)


def _read(datasets: Sequence[Dataset], starts: np.ndarray, nearest: Nearest) -> list[tuple[int, Found]]:
    """Each row as it is found, with its dataset's number, in the order given."""
    made: dict[int, tuple[int, Found]] = {}
    for number, here in by_dataset(starts, nearest.places):
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
