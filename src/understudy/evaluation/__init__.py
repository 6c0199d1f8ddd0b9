"""How good a student is: metrics here, intervals and comparisons in ``understudy.evaluation.statistics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from understudy.evaluation.metrics import RATIONALE, check_metrics, metric_names, score
from understudy.records import Example, Prediction
from understudy.task import Task

__all__ = ["RATIONALE", "check_metrics", "evaluate", "metric_names", "score"]


def evaluate(
    predict: Callable[[Iterable[Any]], Iterable[Prediction]], task: Task, examples: Sequence[Example]
) -> dict[str, float]:
    """Score a model on examples by the task's metrics.

    Args:
        predict: one prediction a row, in order: the ``predict`` of any student, or a function of yours. It is given the
            inputs, and the examples themselves for kind: choice, whose answer depends on a row's choices.

    Returns:
        Metric -> score in [0, 1].

    Raises:
        DataError: an example has no target, or the predictions are not as many.
        MissingPackage: a metric's package is not installed.
    """
    rows = examples if task.kind == "choice" else (example.input for example in examples)
    outputs = [prediction.output for prediction in predict(rows)]
    targets = [example.target for example in examples]
    return {metric: score(metric, task, targets, outputs) for metric in task.metric_names}
