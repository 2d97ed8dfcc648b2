"""Tables of what goes beyond a task's own rows: its scores in other languages, and the knowledge of an adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.formatting import kind_label, metric_label, score
from graftwork.report.table import Table


def elsewhere_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each task that was also scored elsewhere, from the sources and targets of the results."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("elsewhere"):
            found.setdefault(row["task"], []).append(row)
    return [_elsewhere(task, of_task) for task, of_task in found.items()]


def cloze_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The table of how well the objects of triples are predicted, from the knowledge of the results; none without rows."""
    lines = [
        [
            f"{row['task']}, {part.replace('_', ' ')}",
            str(cloze["after"]["count"]),
            _percent(cloze["commonest"]),
            *(
                _percent(cloze[moment][key])
                for key in ("accuracy", "mean_reciprocal_rank")
                for moment in ("before", "after")
            ),
        ]
        for row in rows
        for part, cloze in row["cloze"].items()
    ]
    if not lines:
        return []
    columns = ["", "clozes", "commonest", "first, before", "after", "MRR, before", "after"]
    notes = [
        "The object of a triple is asked for, among those of its predicate; in percent, without the adapter and with it.",
        "Commonest: how often the predicate's commonest object is right. MRR: the mean reciprocal rank.",
    ]
    return [Table("Clozes: what is known", columns, lines, notes)]


def _elsewhere(task: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each way of training a task, a column for each place."""
    first = rows[0]
    metric, own = first["metric"], first["language"]
    places = list(first["elsewhere"])
    lines = [
        [
            kind_label(row["kind"], len(row["members"]), row.get("method", "")),
            score(row["mean"], metric, row["sd"]),
            *(score(row["elsewhere"][p]["mean"], metric, row["elsewhere"][p]["sd"]) for p in places),
        ]
        for row in rows
    ]
    here = f"{own or 'its own'} ({first['scored_on']})"
    trained = f", learnt in {own}" if own else ""
    note = "Adapters of tasks are stacked on the adapter of the language that is read; nothing else was trained in it."
    notes = [note] if any(row.get("under") for row in rows) else []
    columns = ["", here, *(f"→ {place}" for place in places)]
    return Table(f"{task}: {metric_label(metric)} elsewhere{trained}", columns, lines, notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
