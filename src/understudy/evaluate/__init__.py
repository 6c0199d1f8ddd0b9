"""How good a student is: metrics here, intervals and comparisons in ``understudy.evaluate.statistics``."""

from understudy.evaluate.metrics import check_metrics, metric_names, score

__all__ = ["check_metrics", "metric_names", "score"]
