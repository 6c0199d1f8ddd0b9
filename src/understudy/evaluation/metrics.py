"""The metrics, all of them functions of weighted rows, so that one model and a bootstrap share the same code.

An answer is a set of labels: one for classification, any number for multilabel, none for a prediction of ``None``.
Then every metric has one definition:

- ``accuracy``: the share of rows whose set is exactly the gold one.
- ``macro_f1``: the mean F1 of the labels that occur in gold or prediction (scikit-learn's default for classification).
- ``micro_f1``: F1 over all labels' decisions taken together. Under classification it equals accuracy.

A ratio of nothing to nothing is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from understudy.errors import DataError, SettingsError
from understudy.records import Target
from understudy.settings import did_you_mean
from understudy.task import Kind, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Answers:
    """Gold and predicted answers as integers; rows that are alike in gold and in every run stand once, in sorted order.

    ``gold`` is [rows], ``runs`` [runs, rows], both index ``sets`` [answers, labels], which says what labels an answer
    holds; ``counts`` [rows] is how many rows are alike. The order of the rows that came in leaves no trace.
    """

    gold: NDArray[np.intp]
    runs: NDArray[np.intp]
    sets: NDArray[np.bool_]
    counts: NDArray[np.intp]


def encode(gold: Sequence[Target], runs: Sequence[Sequence[Target]]) -> Answers:
    """Answers of any number of runs on the same rows.

    Raises:
        DataError: there are no rows or runs, a gold answer is missing, or a run has another number of rows.
    """
    import numpy as np

    if not gold or not runs:
        raise DataError(
            f"nothing to score: {len(gold)} rows with a gold answer, {len(runs)} runs; check the test split"
        )
    if None in gold:
        raise DataError(f"test row {list(gold).index(None)} has no target; every test row needs one")
    for run in runs:
        if len(run) != len(gold):
            raise DataError(f"{len(run)} predictions for {len(gold)} test rows; predict the whole test split again")
    rows = [[_labels(answer) for answer in answers] for answers in (gold, *runs)]
    answers = sorted({answer for row in rows for answer in row})
    labels = sorted({label for answer in answers for label in answer})
    code = {answer: i for i, answer in enumerate(answers)}
    codes = np.array([[code[answer] for answer in row] for row in rows], dtype=np.intp)
    codes, counts = np.unique(codes, axis=1, return_counts=True)
    sets = np.array([[label in answer for label in labels] for answer in answers], dtype=bool)
    return Answers(gold=codes[0], runs=codes[1:], sets=sets.reshape(len(answers), len(labels)), counts=counts)


def _labels(answer: Target) -> tuple[str, ...]:
    if isinstance(answer, tuple):
        return tuple(sorted(set(answer)))
    return () if answer is None else (answer,)


def _accuracy(answers: Answers, weights: Floats) -> Floats:
    right = (answers.runs == answers.gold).astype(weights.dtype)
    return (weights @ right.T).astype("float64") / weights.sum(axis=1, keepdims=True, dtype="float64")


def _macro_f1(answers: Answers, weights: Floats) -> Floats:
    return _over_runs(answers, weights, lambda hits, sizes: _ratio(_ratio(2 * hits, sizes).sum(1), (sizes > 0).sum(1)))


def _micro_f1(answers: Answers, weights: Floats) -> Floats:
    return _over_runs(answers, weights, lambda hits, sizes: _ratio(2 * hits.sum(1), sizes.sum(1)))


def _over_runs(answers: Answers, weights: Floats, f1: Callable[[Floats, Floats], Floats]) -> Floats:
    """``f1`` of (right, gold + predicted) decisions, both [resamples, labels], for each run: [resamples, runs]."""
    import numpy as np

    gold = answers.sets[answers.gold]
    in_gold = weights @ gold.astype(weights.dtype)
    columns = []
    for run in answers.runs:
        predicted = answers.sets[run]
        hits = weights @ (gold & predicted).astype(weights.dtype)
        sizes = in_gold + weights @ predicted.astype(weights.dtype)
        columns.append(f1(hits.astype(np.float64), sizes.astype(np.float64)))
    return np.stack(columns, axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    import numpy as np

    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


METRICS: Mapping[str, Callable[[Answers, Floats], Floats]] = {
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "micro_f1": _micro_f1,
}
KINDS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "micro_f1"),
    "multilabel": ("accuracy", "macro_f1", "micro_f1"),
}


def metric_names(kind: Kind) -> tuple[str, ...]:
    """The metrics that there are for a kind of task."""
    return KINDS.get(kind, ())


def check_metrics(names: Iterable[str], kind: Kind) -> None:
    """Refuse a metric that there is not.

    Raises:
        SettingsError: names the metric, the kind and the known metrics.
    """
    known = list(metric_names(kind))
    for name in names:
        if name not in known:
            raise SettingsError(f"task.metrics: {name!r} is no metric for kind: {kind}. {did_you_mean(name, known)}")


def weighted_scores(metric: str, answers: Answers, weights: Floats) -> Floats:
    """The score of each run under each weighting of the rows.

    Args:
        weights: [resamples, rows], whole numbers below 2**24, so that float32 sums are exact in any order.

    Returns:
        [resamples, runs] in float64.
    """
    return METRICS[metric](answers, weights)


def score(metric: str, task: Task, targets: Sequence[Target], predictions: Sequence[Target]) -> float:
    """The score of one model.

    Raises:
        SettingsError: the metric is none of the task's kind.
        DataError: the rows do not match, or a target is missing.
    """
    check_metrics([metric], task.kind)
    answers = encode(targets, [predictions])
    return float(weighted_scores(metric, answers, answers.counts[None].astype("float64"))[0, 0])
