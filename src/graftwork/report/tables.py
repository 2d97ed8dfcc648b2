"""Results as tables: one for each target, one of the sources, and so on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graftwork.report.sequences import forgetting_tables
from graftwork.report.table import MISSING, Table
from graftwork.report.together_tables import together_tables
from graftwork.report.transfer import cloze_tables, elsewhere_tables
from graftwork.report.words import kept, kind_label, metric_label, score, size
from graftwork.training.planning.kinds import KINDS, OF_SOURCES, UNIT_KINDS
from graftwork.training.planning.plan import Unit

# Kinds of adapters that stand under others, and what they are called together, in the results too.
PRETRAINED = {"language": "Languages", "knowledge": "Knowledge"}
_FOR_SOURCES = ("language", "knowledge", "trunk", *OF_SOURCES)
# Kinds that are trained for targets alone: who has one is a target.
FOR_TARGETS = tuple(k.name for k in UNIT_KINDS.values() if k.name not in _FOR_SOURCES and not k.of_all)
# Together with the rest as wide as a terminal of 80 columns.
_COSTS = ["trained", "file", "seconds", "ms/row"]


def tables(results: Mapping[str, Any], units: Sequence[Unit] = ()) -> list[Table]:
    """A table for each target, one of the sources, and what there is besides: of other languages, of many tasks, of knowledge.

    Args:
        results: What ``results.json`` says.
        units: All that were planned; what is not done of them is marked so. By default only what is done is shown.
    """
    rows = [*results["targets"]]
    targets = dict.fromkeys([*(u.task for u in units if u.kind in FOR_TARGETS), *(row["task"] for row in rows)])
    found = [target_table(target, [r for r in rows if r["task"] == target], units) for target in targets]
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
    """What was compared on a target.

    Args:
        target: The task.
        rows: Its rows of the results, of each kind one.
        units: All that were planned, of this and other tasks.
    """
    by_kind = {(row["kind"], row.get("method", "")): row for row in rows}
    asked = dict.fromkeys([*((u.kind, u.method) for u in units if target in (u.task, *u.tasks)), *by_kind])
    lines = []
    for kind, method in sorted(asked, key=lambda one: KINDS.index(one[0])):
        planned = [u for u in units if (u.kind, u.method) == (kind, method) and target in (u.task, *u.tasks)]
        row = by_kind.get((kind, method))
        if row is not None:
            mean = score(row["mean"], row["metric"], row["sd"])
            done, members = len(row["seeds"]), len(row["members"])
            lines.append([kind_label(kind, members, method), mean, _seeds(done, len(planned)), *_costs(row)])
        elif planned:
            lines.append(
                [
                    kind_label(kind, len(planned[0].members), method),
                    MISSING,
                    _seeds(0, len(planned)),
                    *[""] * len(_COSTS),
                ]
            )
    if not rows:
        return Table(f"{target}: nothing is done yet", ["", "score", "seeds", *_COSTS], lines, [])
    metric = rows[0]["metric"]
    spread = ", mean ± sd over the seeds" if any(row["sd"] is not None for row in rows) else ""
    title = f"{target}: {metric} on {_splits(rows)}{spread}"
    return Table(title, ["", metric_label(metric), "seeds", *_COSTS], lines, _notes(rows))


def source_table(rows: Sequence[Mapping[str, Any]], units: Sequence[Unit] = (), title: str = "Sources") -> Table:
    """The adapters of the tasks that are no targets; or those of languages, or of knowledge.

    Args:
        rows: The sources of the results.
        units: All that were planned.
        title: What they are.
    """
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


def _seeds(done: int, planned: int) -> str:
    return f"{done} of {planned}" if done < planned else str(done)


def _costs(row: Mapping[str, Any]) -> list[str]:
    timings = row["timings"]
    file = size(row["file_bytes"]) + ("" if kept(row["kind"]) else "*")
    return [
        f"{row['trained_weights']:,}",
        file,
        f"{timings['train_seconds']:,.0f}",
        f"{timings['milliseconds_a_row']:.1f}",
    ]


def _splits(rows: Iterable[Mapping[str, Any]]) -> str:
    return " and ".join(sorted({str(row["scored_on"]) for row in rows}))


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if any(row["scored_on"] == "dev" for row in rows):
        notes.append("The best epoch was chosen on the same dev rows, so the scores on them are a little too good.")
    if any(row["members"] or row.get("under") for row in rows):
        notes.append("Weights trained, file and seconds are a row's own, without the adapters that it stands over.")
    if any(UNIT_KINDS[row["kind"]].of_all for row in rows):
        notes.append("What is trained on all tasks is counted whole, for all of them.")
    if any(not kept(row["kind"]) for row in rows):
        notes.append("* not kept: what a file of it would take.")
    return notes
