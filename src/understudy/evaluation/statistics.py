"""How sure a score is: the bootstrap over seeds and rows, the paired one between two arms, chance, label saving.

All of it is deterministic for a ``seed``, and neither the order of the rows nor the number of processors changes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DataError
from understudy.evaluation.metrics import METRICS, count, weighted_scores
from understudy.records import Target

Runs = Sequence[Sequence[Target]]  # one list of predictions a seed, all on the same rows

_CHUNK = 4_000_000  # weights held at a time, so that memory does not grow with rows x resamples
_TIE = 1e-12  # two means that differ by less are equal: they differ by the order of a sum


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean over seeds and its 95 % interval."""

    mean: float
    low: float
    high: float
    per_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Arm a's mean less arm b's, its 95 % interval, and the two-sided p that there is no difference."""

    difference: float
    low: float
    high: float
    p: float


def interval(metric: str, gold: Sequence[Target], runs: Runs, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean over seeds with its 95 % percentile bootstrap interval.

    Each resample draws rows and seeds, both with replacement, and every drawn seed is scored on the drawn rows. With
    one seed only rows vary, and the interval knows nothing of how training varies; with few it knows little. An F1 is
    biased under resampling where labels are rare, so the interval is widened where it would not hold the mean.

    Raises:
        DataError: there are no rows or runs, or a run has another number of rows.
    """
    per_seed, draws = _bootstrap(metric, gold, [runs], resamples, seed)
    mean = float(per_seed[0].mean())
    low, high = _percentiles(draws[:, 0], mean)
    return Interval(mean, low, high, tuple(map(float, per_seed[0])))


def paired(
    metric: str, gold: Sequence[Target], runs_a: Runs, runs_b: Runs, *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """How much higher arm a scores than arm b, with the same rows and seeds drawn for both.

    ``runs_a[i]`` and ``runs_b[i]`` must come from the same seed. p is twice the smaller share of resamples on either
    side of no difference, counted as (k + 1) / (n + 1), so that it is never 0.

    Raises:
        DataError: the arms have different numbers of seeds or rows.
    """
    if len(runs_a) != len(runs_b):
        raise DataError(f"{len(runs_a)} seeds against {len(runs_b)}; a paired comparison needs the same seeds")
    per_seed, draws = _bootstrap(metric, gold, [runs_a, runs_b], resamples, seed)
    difference = float(per_seed[0].mean() - per_seed[1].mean())
    differences = draws[:, 0] - draws[:, 1]
    low, high = _percentiles(differences, difference)
    fewer = min(int((differences <= _TIE).sum()), int((differences >= -_TIE).sum()))
    return Difference(difference, low, high, min(1.0, 2 * (fewer + 1) / (resamples + 1)))


def _bootstrap(
    metric: str, gold: Sequence[Target], arms: Sequence[Runs], resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores [arms, seeds] on all rows, and the means over drawn seeds on drawn rows [resamples, arms]."""
    counts = count(metric, gold, [run for runs in arms for run in runs])
    shape = (-1, len(arms), len(arms[0]))
    scores = weighted_scores(counts, counts.rows[None]).reshape(shape)[0]
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(shape[2], np.full(shape[2], 1 / shape[2]), size=resamples)
    share = counts.rows / len(gold)
    means = []
    step = max(1, _CHUNK // len(share))
    for start in range(0, resamples, step):
        seeds = drawn_seeds[start : start + step]
        weights = random.multinomial(len(gold), share, size=len(seeds)).astype(np.float32)
        drawn = weighted_scores(counts, weights).reshape(shape)
        means.append((drawn * seeds[:, None, :]).sum(axis=2) / shape[2])
    return scores, np.concatenate(means)


def _percentiles(draws: NDArray[np.float64], mean: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return min(float(low), mean), max(float(high), mean)


def chance(metric: str, gold: Sequence[Target], choices: Sequence[Sequence[str]] = ()) -> float | None:
    """What a model that reads nothing reaches on this test split.

    With ``choices``, the options of each row, it is what a guess among them is worth: the mean of 1 / their number.
    Otherwise it is the score of the best prediction that is the same for every row. For classification that is the most
    frequent label, under every metric; for multilabel the most frequent set (accuracy) or the m most frequent labels
    for the best m (F1); for metrics that a text meets or does not, the most frequent answer as it is written.

    Returns:
        ``None`` for metrics of how near a text comes: no best constant is known for them.

    Raises:
        DataError: there are no rows, or a row has no options where others have.
    """
    if choices:
        if not all(choices):
            raise DataError(f"test row {[bool(options) for options in choices].index(False)} has no choices")
        return math.fsum(1 / len(options) for options in choices) / len(choices)
    constants = METRICS[metric].constants
    if constants is None:
        return None
    counts = count(metric, gold, [[constant] * len(gold) for constant in (constants(gold) if gold else ())])
    return float(weighted_scores(counts, counts.rows[None]).max())


@dataclass(frozen=True, slots=True)
class LabelSaving:
    """How many gold rows the gold-only student needs to equal an arm.

    ``rows`` is that number where ``relation`` is ``"="``; the largest number measured where it needs more (``">"``),
    the smallest where it needs fewer (``"<"``).
    """

    rows: int
    relation: Literal["=", ">", "<"] = "="

    def text(self, gold_rows: int) -> str:
        """For a person, e.g. ``as 1,190 gold rows (3.1 times its 385)``; ``gold_rows`` is what the arm had itself."""
        words = {"=": "as", ">": "as more than", "<": "as fewer than"}[self.relation]
        times = f" ({self.rows / gold_rows:.1f} times its {gold_rows:,})" if gold_rows else ""
        return f"{words} {self.rows:,} gold rows{times}"


def label_saving(gold_curve: Sequence[tuple[int, float]], score: float) -> LabelSaving | None:
    """Read off how many gold rows the gold-only student needs for ``score``.

    The curve is made of straight lines over the logarithm of the rows between the measured arms, after arms of one
    size are averaged and each score is raised to the best of any smaller size, so that more rows never hurt. Where
    the curve is flat, the fewest rows count. Nothing is said beyond what was measured.

    Args:
        gold_curve: (gold rows, mean score) of each gold-only arm.

    Returns:
        ``None`` with fewer than two sizes above 0.
    """
    sizes = sorted({rows for rows, _ in gold_curve if rows > 0})
    if len(sizes) < 2:
        return None
    best, curve = -math.inf, []
    for size in sizes:
        scores = [s for rows, s in gold_curve if rows == size]
        best = max(best, sum(scores) / len(scores))
        curve.append((size, best))
    if score < curve[0][1]:
        return LabelSaving(curve[0][0], "<")
    if score > curve[-1][1]:
        return LabelSaving(curve[-1][0], ">")
    at = next(i for i, (_, reached) in enumerate(curve) if reached >= score)
    rows, reached = curve[at]
    if reached == score:
        return LabelSaving(rows)
    before, start = curve[at - 1]
    along = (score - start) / (reached - start)
    return LabelSaving(round(math.exp(math.log(before) + along * (math.log(rows) - math.log(before)))))
