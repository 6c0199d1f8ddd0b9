"""The linear head on frozen embeddings: logistic regression, and the choice of its regularisation.

One objective for both kinds of task: a softmax over the labels (``exclusive``), or a sigmoid a label (multilabel).
The optimum is scikit-learn's ``LogisticRegression``; here a label without rows, a single label and the multilabel
case (all labels in one matrix product) need no cases of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax

Array: TypeAlias = np.ndarray

GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5
ROWS_TO_CHOOSE_ON = 5000  # more rows do not move the choice of C, and its cost grows with them
FEW = 10.0  # C where there are too few rows to choose it


@dataclass(frozen=True, slots=True)
class Head:
    """``logits = x @ weight.T + bias``; weight is (labels, width), bias (labels,), both float64."""

    weight: Array
    bias: Array

    def logits(self, x: Array) -> Array:
        """(rows, width) to (rows, labels)."""
        return x @ self.weight.T + self.bias


def losses(logits: Array, y: Array, exclusive: bool) -> Array:
    """The log loss of each row; ``y`` is (rows, labels) of 0 and 1."""
    if exclusive:
        return -(y * log_softmax(logits, axis=1)).sum(1)
    return (np.logaddexp(0, logits) - y * logits).sum(1)


def fit(x: Array, y: Array, c: float, *, exclusive: bool, start: Head | None = None) -> Head:
    """The head that minimises ``c * sum of log losses + |weight|^2 / 2`` (the bias is free).

    Args:
        x: embeddings, (rows, width) float64.
        y: targets, (rows, labels) of 0 and 1.
        start: where the search begins; it changes the time, not the answer.
    """
    (rows, width), labels = x.shape, y.shape[1]

    def objective(flat: Array) -> tuple[float, Array]:
        weight, bias = flat[: labels * width].reshape(labels, width), flat[labels * width :]
        logits = x @ weight.T + bias
        log_p = log_softmax(logits, axis=1) if exclusive else None
        p = expit(logits) if log_p is None else np.exp(log_p)
        loss = losses(logits, y, exclusive).sum() if log_p is None else -(y * log_p).sum()
        error = (p - y) / rows
        value = loss / rows + (weight**2).sum() / (2 * c * rows)
        return value, np.concatenate([(error.T @ x + weight / (c * rows)).ravel(), error.sum(0)])

    first = np.zeros(labels * (width + 1)) if start is None else np.concatenate([start.weight.ravel(), start.bias])
    found = minimize(
        objective, first, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-4, "ftol": 1e-14}
    )
    return Head(found.x[: labels * width].reshape(labels, width), found.x[labels * width :])


def choose_c(
    x: Array, y: Array, *, exclusive: bool, seed: int, report: Callable[[int, int], None] = lambda done, total: None
) -> float:
    """C from 0.1 to 100 by stratified cross-validation, scored by log loss.

    The log loss, not the accuracy: on few rows the accuracy moves in steps, and its best C is the noise's.

    Args:
        report: called with the fits that are done, and how many there will be.
    """
    if len(x) > ROWS_TO_CHOOSE_ON:
        part = np.random.default_rng(seed).permutation(len(x))[:ROWS_TO_CHOOSE_ON]
        x, y = x[part], y[part]
    total, scored, fits = np.zeros(len(GRID)), 0, 0
    for learn, held in _folds(y, seed):
        held, head = learnable(y, learn, held), None
        for i, c in enumerate(GRID):
            head = fit(x[learn], y[learn], c, exclusive=exclusive, start=head)
            total[i] += losses(head.logits(x[held]), y[held], exclusive).sum()
            report(fits := fits + 1, FOLDS * len(GRID))
        scored += len(held)
    return GRID[int(total.argmin())] if scored else FEW


def choose_threshold(x: Array, y: Array, c: float, *, seed: int) -> float:
    """The probability from which a multilabel row bears a label: the best micro F1 in cross-validation."""
    logits = np.zeros(y.shape)
    for learn, held in _folds(y, seed):
        logits[held] = fit(x[learn], y[learn], c, exclusive=False).logits(x[held])
    return best_threshold(logits, y)


def best_threshold(logits: Array, y: Array) -> float:
    """The threshold on the probability, 0.05 to 0.95, with the best micro F1; of equals the nearest to 0.5."""
    p = expit(logits)
    grid = sorted(np.arange(1, 20) / 20, key=lambda t: abs(t - 0.5))
    f1 = [2 * (y * (p >= t)).sum() / max(1, (p >= t).sum() + y.sum()) for t in grid]
    return float(grid[int(np.argmax(f1))])


def best_scale(logits: Array, y: Array, exclusive: bool) -> float:
    """By what to multiply logits so that their log loss is least: how sure they should be, not what they say."""
    found = minimize_scalar(
        lambda log: losses(np.exp(log) * logits, y, exclusive).sum(), bounds=(np.log(0.1), np.log(10)), method="bounded"
    )
    return float(np.exp(found.x))


def stratify(labels: Sequence[int], parts: int, seed: int) -> Array:
    """The part, 0 to ``parts - 1``, of each row: every label is spread over the parts as evenly as it goes."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    part = np.empty(len(labels), dtype=int)
    part[order] = np.arange(len(labels)) % parts
    return part


def learnable(y: Array, learn: Array, held: Array) -> Array:
    """Those of the ``held`` rows whose labels all stand in the ``learn`` rows: the others tell nothing."""
    unknown = (y[learn] == 0).all(0)
    return held[(y[held][:, unknown] == 0).all(1)]


def first_label(y: Array) -> list[int]:
    """What a row is stratified by: its first label, or one past the last where it has none."""
    return [int(row.argmax()) if row.any() else len(row) for row in y]


def _folds(y: Array, seed: int) -> Iterator[tuple[Array, Array]]:
    part = stratify(first_label(y), FOLDS, seed)
    for fold in range(FOLDS):
        learn, held = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
        if len(learn) and len(held):
            yield learn, held
