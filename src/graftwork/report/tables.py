"""Tables of a run: its data, and its results for each target, for the sources, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.experiments.kinds import KINDS, OF_SOURCES, UNIT_KINDS, Unit
from graftwork.report.formatting import kept, kind_label, metric_label, score, size
from graftwork.report.sequences import forgetting_tables
from graftwork.report.table import MISSING, Table
from graftwork.report.together_tables import together_tables
from graftwork.report.transfer import cloze_tables, elsewhere_tables
from graftwork.tasks import Survey
from graftwork.tasks.survey import percent

# Kinds of adapters that others are stacked on, and the title of their table; in lower case their key in the results.
PRETRAINED = {"language": "Languages", "knowledge": "Knowledge"}
_FOR_SOURCES = ("language", "knowledge", "trunk", *OF_SOURCES)
# Kinds that are trained for targets alone: a task with such a unit is a target.
FOR_TARGETS = tuple(k.name for k in UNIT_KINDS.values() if k.name not in _FOR_SOURCES and not k.of_all)
# With these the table of a target fits 80 columns.
_COSTS = ["trained", "file", "seconds", "ms/row"]
_OF_DATA = ["task", "train", "dev", "test", "labels", "largest", "cut", "in train and dev", "empty"]


def tables(results: Mapping[str, Any], units: Sequence[Unit] = ()) -> list[Table]:
    """A table for each target, one of the sources, and those of other languages, many tasks and knowledge, if any.

    Args:
        results: The content of ``results.json``.
        units: All planned units; those that are not done are marked so. By default only results are shown.
    """
    return [*target_tables(results, units).values(), *other_tables(results, units)]


def target_tables(results: Mapping[str, Any], units: Sequence[Unit] = ()) -> dict[str, Table]:
    """The table of each target, by its task."""
    rows = [*results["targets"]]
    targets = dict.fromkeys([*(u.task for u in units if u.kind in FOR_TARGETS), *(row["task"] for row in rows)])
    return {target: target_table(target, [r for r in rows if r["task"] == target], units) for target in targets}


def other_tables(results: Mapping[str, Any], units: Sequence[Unit] = ()) -> list[Table]:
    """The tables of what is no target: sources, other languages, many tasks, what is forgotten, knowledge."""
    targets, found = target_tables(results, units), []
    sources = [u for u in units if u.kind in OF_SOURCES and not u.method and u.task not in targets]
    if sources or results["sources"]:
        found.append(source_table(results["sources"], sources))
    found += elsewhere_tables([*results["sources"], *results["targets"]])
    for kind, title in PRETRAINED.items():
        planned = [unit for unit in units if unit.kind == kind]
        if planned or results.get(title.lower()):
            found.append(source_table(results.get(title.lower(), []), planned, title))
    found += [*together_tables(results), *forgetting_tables(results)]
    return [*found, *cloze_tables(results.get("knowledge", []))]


def target_table(target: str, rows: Sequence[Mapping[str, Any]], units: Sequence[Unit] = ()) -> Table:
    """The table of a target: a line for each kind of training, from its row of the results if it has one."""
    by_kind = {(row["kind"], row.get("method", "")): row for row in rows}
    of_target = [unit for unit in units if target in (unit.task, *unit.tasks)]
    kinds = dict.fromkeys([*((unit.kind, unit.method) for unit in of_target), *by_kind])
    lines = []
    for kind, method in sorted(kinds, key=lambda one: KINDS.index(one[0])):
        planned = [unit for unit in of_target if (unit.kind, unit.method) == (kind, method)]
        row = by_kind.get((kind, method))
        if row is None:
            members, done, cells = planned[0].members, 0, (MISSING, [""] * len(_COSTS))
        else:
            members, done = row["members"], len(row["seeds"])
            cells = score(row["mean"], row["metric"], row["sd"]), _costs(row)
        seeds = f"{done} of {len(planned)}" if done < len(planned) else str(done)
        lines.append([kind_label(kind, len(members), method), cells[0], seeds, *cells[1]])
    if not rows:
        return Table(f"{target}: nothing is done yet", ["", "score", "seeds", *_COSTS], lines, [])
    metric = rows[0]["metric"]
    spread = ", mean ± sd over the seeds" if any(row["sd"] is not None for row in rows) else ""
    title = f"{target}: {metric} on {' and '.join(sorted({str(row['scored_on']) for row in rows}))}{spread}"
    return Table(title, ["", metric_label(metric), "seeds", *_COSTS], lines, _notes(rows))


def source_table(rows: Sequence[Mapping[str, Any]], units: Sequence[Unit] = (), title: str = "Sources") -> Table:
    """The table of adapters of one kind, a line for each task: the sources, languages or knowledge of the results."""
    by_task = {row["task"]: row for row in rows}
    lines = []
    for task in dict.fromkeys([*(unit.task for unit in units), *by_task]):
        row = by_task.get(task)
        if row is None:
            lines.append([task, "", MISSING, "", *[""] * len(_COSTS)])
        else:
            cells = [metric_label(row["metric"]), score(row["mean"], row["metric"], row["sd"]), row["scored_on"]]
            lines.append([task, *cells, *_costs(row)])
    return Table(f"{title}: one adapter each", ["task", "metric", "score", "on", *_COSTS], lines, _notes(rows))


def _costs(row: Mapping[str, Any]) -> list[str]:
    timings, file = row["timings"], size(row["file_bytes"]) + ("" if kept(row["kind"]) else "*")
    times = f"{timings['train_seconds']:,.0f}", f"{timings['milliseconds_a_row']:.1f}"
    return [f"{row['trained_weights']:,}", file, *times]


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if any(row["scored_on"] == "dev" for row in rows):
        notes.append("The best epoch was chosen on the same dev rows, so the scores on them are a little too good.")
    for folds in sorted({row["folds"] for row in rows if "folds" in row}):
        notes.append(
            f"Each seed is trained on {folds - 1} of {folds} folds and scored on the other: the mean is over all rows."
        )
    if any(row["members"] or row.get("under") for row in rows):
        notes.append("Weights trained, file and seconds are a row's own, without the adapters that it uses.")
    if any(UNIT_KINDS[row["kind"]].of_all for row in rows):
        notes.append("What is trained on all tasks is counted whole, for all of them.")
    if any(not kept(row["kind"]) for row in rows):
        notes.append("* not kept: what a file of it would take.")
    return notes


def data_table(surveys: Sequence[Survey]) -> Table:
    """The table of the tasks' data, a row each; the notes below have its labels and what to know before training."""
    several = len(surveys) > 1
    notes = [f"{one.task.name}: {note}" if several else note for one in surveys for note in one.notes()]
    return Table("Data", _OF_DATA, [_data_row(one) for one in surveys], notes)


def _data_row(one: Survey) -> list[str]:
    task = one.task
    part = "" if one.encoded == len(task.train) + len(task.dev) else "about "
    return [
        task.name,
        f"{len(task.train):,}",
        f"{len(task.dev):,}{' (held out)' if task.held_out else ''}",
        "-" if task.test is None else f"{len(task.test):,}",
        str(len(task.labels)) if one.counts else "-",
        "-" if one.largest is None else percent(one.largest),
        f"{part}{percent(one.cut / one.encoded, 0)}" if one.encoded else "-",
        f"{one.repeated:,}",
        f"{len(one.empty):,}",
    ]
