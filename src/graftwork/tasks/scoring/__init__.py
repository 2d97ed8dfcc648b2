"""The metrics: importing this registers them."""

from graftwork.tasks.scoring import answers, labels, numbers, texts, tokens  # noqa: F401
from graftwork.tasks.scoring.registry import Metric, find_metric, metric, metrics

__all__ = ["Metric", "find_metric", "metric", "metrics"]
