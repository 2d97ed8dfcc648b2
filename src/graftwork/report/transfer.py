"""What went further than a task's own rows, as tables: its scores in other languages, and what an adapter knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.formatting import kind_label, metric_label, score
from graftwork.report.table import Table

PARTS = {"told": "told", "held_out": "held out"}
MOMENTS = ("before", "after")


def elsewhere_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table for each task that was scored elsewhere: a line for each way of training it, a column for each place.

    Args:
        rows: The sources and targets of the results.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("elsewhere"):
            found.setdefault(row["task"], []).append(row)
    return [_elsewhere(task, of_task) for task, of_task in found.items()]


def cloze_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """How well the objects of triples are known: a line for what was told and one for what was held out, by knowledge.

    Args:
        rows: The knowledge of the results.
    """
    lines = [
        [
            f"{row['task']}, {PARTS[part]}",
            str(cloze["after"]["count"]),
            _percent(cloze["commonest"]),
            *(_percent(cloze[moment][key]) for key in ("accuracy", "mean_reciprocal_rank") for moment in MOMENTS),
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
    notes = []
    if any(row.get("under") for row in rows):
        notes.append(
            "Adapters of tasks are stacked on the adapter of the language that is read; nothing else was learnt in it."
        )
    columns = ["", here, *(f"→ {place}" for place in places)]
    return Table(f"{task}: {metric_label(metric)} elsewhere{trained}", columns, lines, notes)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
