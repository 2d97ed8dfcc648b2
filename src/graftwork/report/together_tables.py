"""A table that compares training on all tasks at once with training on each alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.report.formatting import change, kind_label, metric_label, points, score
from graftwork.report.table import Table
from graftwork.training.scores import mean_metric


def together_tables(results: Mapping[str, Any]) -> list[Table]:
    """The table from ``results.json``, a line for each task and kind of training; none if nothing was trained together."""
    rows = results.get("together", [])
    if not rows:
        return []
    tasks = dict.fromkeys(task for row in rows for task in row["scores"])
    lines = [_line(row, task) for task in tasks for row in rows if task in row["scores"]]
    columns = ["task", "metric", "trained", "together", "alone", "difference"]
    return [Table("Together against alone", columns, lines, [note for row in rows for note in _notes(row)])]


def _line(row: Mapping[str, Any], task: str) -> list[str]:
    scored = row["scores"][task]
    metric = scored["metric"]
    cells = [task, metric_label(metric), _title(row), score(scored["mean"], metric)]
    if task not in row["alone"]:
        return [*cells, "", ""]
    return [*cells, score(row["alone"][task], metric), change(row["interference"][task], metric)]


def _title(row: Mapping[str, Any]) -> str:
    return kind_label(row["kind"], 0, row.get("method", ""))


def _notes(row: Mapping[str, Any]) -> list[str]:
    """A note on what a kind of training is compared with, and the mean difference."""
    kind, against, differences = _title(row), UNIT_KINDS[row["against"]].title, row["interference"]
    if not differences:
        return []
    metric = mean_metric(row["scores"][task]["metric"] for task in differences)
    mean = f"{change(statistics.fmean(differences.values()), metric)}{points(metric)}"
    over = "1 task" if len(differences) == 1 else f"{len(differences)} tasks"
    return [f"{kind}, against {against}: {mean} in the mean of {over}; negative where the others do harm."]
