"""How good a student is: metrics here, intervals and comparisons in ``understudy.evaluation.statistics``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from understudy.evaluation.metrics import check_metrics, metric_names, score
from understudy.records import Example, Prediction
from understudy.task import Task

__all__ = ["check_metrics", "evaluate", "metric_names", "score"]


def evaluate(
    predict: Callable[[Iterable[str]], Iterable[Prediction]], task: Task, examples: Sequence[Example]
) -> dict[str, float]:
    """Score a model on examples by the task's metrics.

    Args:
        predict: one prediction an input, in order: the ``predict`` of any student, or a function of yours.

    Returns:
        Metric -> score in [0, 1].

    Raises:
        DataError: an example has no target, or the predictions are not as many.
    """
    outputs = [prediction.output for prediction in predict(example.input for example in examples)]
    targets = [example.target for example in examples]
    return {metric: score(metric, task, targets, outputs) for metric in task.metric_names}
