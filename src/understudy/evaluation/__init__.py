"""How good a student is: metrics here, intervals and comparisons in ``understudy.evaluation.statistics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from understudy.evaluation.metrics import RATIONALE, check_metrics, metric_names, score
from understudy.records import Example, Prediction, Target
from understudy.task import CHOOSING_KINDS, Task

__all__ = ["RATIONALE", "check_metrics", "evaluate", "metric_names", "score", "scored"]


def evaluate(
    predict: Callable[[Iterable[Any]], Iterable[Prediction]], task: Task, examples: Sequence[Example]
) -> dict[str, float]:
    """Score a model on examples by the task's metrics.

    Args:
        predict: one prediction a row, in order: the ``predict`` of any student, or a function of yours. It is given the
            inputs, and the examples themselves where the answer depends on a row's choices: for kind: choice and
            pretraining.

    Returns:
        Metric -> score in [0, 1].

    Raises:
        DataError: an example has no target, or the predictions are not as many.
        MissingPackage: a metric's package is not installed.
    """
    rows = examples if task.kind in CHOOSING_KINDS else (example.input for example in examples)
    answers = list(predict(rows))
    return {metric: score(metric, task, *scored(metric, examples, answers)) for metric in task.metric_names}


def scored(
    metric: str, examples: Iterable[Example], answers: Iterable[Prediction]
) -> tuple[Sequence[Target], Sequence[Target]]:
    """What a metric compares, row by row: the answers of both, or the reasoning of both."""
    if metric.startswith(RATIONALE):
        return [row.rationale for row in examples], [answer.rationale for answer in answers]
    return [row.target for row in examples], [answer.output for answer in answers]
