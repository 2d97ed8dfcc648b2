"""A published table that several facts are computed from: AdapterFusion on sixteen tasks (arXiv:2005.00247, Table 1).

BERT-base-uncased, accuracy in percent on the development sets. ``single`` is a Pfeiffer adapter of reduction factor 16,
``multi`` one set of adapters trained on all tasks together, ``fusion`` AdapterFusion over the single-task adapters.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable

COLUMNS = ("head", "full", "single", "multi", "fusion", "houlsby")

# In the paper's order, which is by training rows.
ACCURACY: dict[str, tuple[float, ...]] = {
    "MNLI": (54.59, 84.10, 84.32, 82.49, 84.28, 84.13),
    "QQP": (76.79, 90.87, 90.59, 89.47, 90.71, 90.63),
    "SST": (85.17, 92.39, 91.85, 92.27, 92.20, 92.75),
    "WinoGrande": (51.92, 60.01, 61.09, 57.70, 60.23, 59.32),
    "IMDB": (85.05, 94.05, 93.85, 92.56, 93.82, 93.96),
    "HellaSwag": (34.17, 39.25, 38.11, 36.47, 37.98, 38.65),
    "SocialIQA": (50.33, 62.05, 62.41, 61.21, 63.16, 62.73),
    "CosmosQA": (50.06, 60.28, 60.01, 61.25, 60.65, 61.37),
    "SciTail": (85.30, 94.32, 93.90, 94.53, 94.04, 94.07),
    "Argument": (70.61, 76.87, 77.65, 75.70, 77.65, 77.44),
    "CSQA": (41.09, 58.88, 58.91, 53.30, 59.73, 60.05),
    "BoolQ": (63.07, 74.84, 75.66, 78.76, 76.25, 76.02),
    "MRPC": (71.91, 85.14, 85.16, 81.86, 90.29, 86.66),
    "SICK": (76.30, 87.30, 86.20, 88.61, 87.28, 86.12),
    "RTE": (61.37, 65.41, 71.04, 77.61, 76.82, 69.67),
    "CB": (68.93, 82.49, 86.07, 89.09, 92.14, 87.50),
}
SMALL = ("MRPC", "SICK", "RTE", "CB")
LARGER = tuple(task for task in ACCURACY if task not in SMALL)
MEANS = (64.17, 75.51, 76.05, 75.80, 77.33, 76.32)  # of all sixteen, as the paper prints them

# RoBERTa-base (Table 4): a single adapter of reduction factor 16, and the fusion of such.
ROBERTA: dict[str, tuple[float, float]] = {
    "MNLI": (86.06, 86.20),
    "QQP": (90.27, 90.28),
    "SST": (93.80, 93.67),
    "WinoGrande": (65.58, 66.01),
    "IMDB": (95.78, 95.78),
    "HellaSwag": (61.57, 61.52),
    "SocialIQA": (70.14, 70.13),
    "CosmosQA": (68.76, 68.64),
    "SciTail": (94.59, 94.44),
    "Argument": (78.50, 77.98),
    "CSQA": (66.30, 66.52),
    "BoolQ": (80.83, 80.86),
    "MRPC": (88.72, 89.65),
    "SICK": (85.40, 85.76),
    "RTE": (75.30, 78.79),
    "CB": (89.28, 92.86),
}


def mean(column: str, tasks: Iterable[str]) -> float:
    """The mean of a column over some tasks."""
    return statistics.fmean(accuracy(column, task) for task in tasks)


def gain(column: str, over: str, tasks: Iterable[str]) -> float:
    """By how much the mean of a column over some tasks is above that of another."""
    tasks = tuple(tasks)
    return mean(column, tasks) - mean(over, tasks)


def roberta_gain(tasks: Iterable[str]) -> float:
    """By how much a fusion is above the single adapter on RoBERTa-base, on the mean of some tasks."""
    return statistics.fmean(ROBERTA[task][1] - ROBERTA[task][0] for task in tasks)


def printed_mean(column: str) -> float:
    """The mean of a column over all tasks, as the paper prints it."""
    return MEANS[COLUMNS.index(column)]


def accuracy(column: str, task: str) -> float:
    """One cell of the table."""
    return ACCURACY[task][COLUMNS.index(column)]
