"""Tables that compare methods: the scores of each target and of their mean, what can be told apart, and costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.formatting import change, column_label, is_share, kept, metric_label, score, size
from graftwork.report.table import Table

Row = Mapping[str, Any]
_RATIOS = {"train_ratio": "train", "inference_ratio": "infer", "train_memory_ratio": "memory"}
_UNKNOWN = "–"
UNCORRECTED = "Cannot be told apart: the interval holds 0. p: two-sided. No interval is widened for their number."


def comparison_tables(comparison: Mapping[str, Any] | None) -> list[Table]:
    """Every table of a comparison, which is the content of ``comparison.json``; none without one."""
    if comparison is None:
        return []
    return [*(table for part in parts(comparison) for table in part.tables), *costs_tables(comparison)]


@dataclasses.dataclass(frozen=True)
class Scores:
    """The scores of a target: its task (empty for the mean of all), a title, the metric and how it is shown, and the rows."""

    task: str
    title: str
    metric: str
    label: str
    rows: Sequence[Row]


@dataclasses.dataclass(frozen=True)
class Part(Scores):
    """A target of a comparison, or the mean of all, with the comparison and notes."""

    comparison: Mapping[str, Any]
    notes: Sequence[str]

    @property
    def tables(self) -> list[Table]:
        """The table of scores with costs, and that of what can be told apart."""
        return [self._scores(), self._apart()]

    def _scores(self) -> Table:
        costs = (self.comparison["costs"] or {"lines": {}})["lines"]
        ratios = {key: head for key, head in _RATIOS.items() if any(key in one for one in costs.values())}
        apart = any(row["weights_a_task"] != row["trained_weights"] for row in self.rows)
        lines = [
            [
                column_label(row),
                score(row["mean"], self.metric, row["sd"]),
                interval(row["against_full"], self.metric),
                f"{row['trained_weights']:,}",
                f"{100 * row['share']:.3g}",
                *([f"{row['weights_a_task']:,}"] if apart else []),
                size(row["file_bytes"]) + ("" if kept(row["kind"]) else "*"),
                *(_ratio(costs.get(row["line"], {}).get(key)) for key in ratios),
            ]
            for row in self.rows
        ]
        counts = ["weights", "% of full", *(["a task"] if apart else []), "file"]
        columns = ["", self.label, "to full [95 %]", *counts, *ratios.values()]
        several = len(self.comparison["seeds"]) > 1
        title = self.title + (", mean ± sd over the seeds" if several else "")
        notes = {
            "What is trained on all tasks is counted whole; a task: its share.": apart,
            "Weights and file are a row's own, without the adapters that it uses.": any(
                r["members"] for r in self.rows
            ),
            "* not kept: what a file of it would take.": not all(kept(row["kind"]) for row in self.rows),
            "Train, infer, memory: times and the peak of training, as ratios to full fine-tuning.": bool(ratios),
            "One seed: the intervals have the noise of the rows, not that of training. Give two seeds or more.": not several,
            f"{_UNKNOWN}: the predictions that are kept do not tell.": any(
                row["against_full"] is None and row["kind"] != "full" for row in self.rows
            ),
        }
        weights = "Weights: what is trained, the head with it; % of full: of those of full fine-tuning."
        return Table(title, columns, lines, [*self.notes, weights, *(note for note, holds in notes.items() if holds)])

    def _apart(self) -> Table:
        names = {row["line"]: column_label(row) for row in self.rows}
        lines = [
            [
                column_label(row),
                *verdict_of(row["against_full"]),
                names.get(row["best_other"], _UNKNOWN),
                interval(row["against_best"], self.metric),
                *verdict_of(row["against_best"]),
            ]
            for row in self.rows
        ]
        columns = ["", "than full", "p", "best other", "to it [95 %]", "than it", "p"]
        return Table(f"{self.title.split(':')[0]}: what can be told apart", columns, lines, [UNCORRECTED])


def parts(comparison: Mapping[str, Any]) -> list[Part]:
    """The mean of all targets, if there are several, and every target."""
    targets = comparison["targets"]
    found: list[Part] = []
    if comparison["mean"]:
        metrics = list(dict.fromkeys(target["metric"] for target in targets))
        shares = all(map(is_share, metrics))
        metric = metrics[0] if len(metrics) == 1 else "accuracy" if shares else "mean"
        notes = [f"The mean of {len(targets)} targets, rows drawn anew of each."]
        if len(metrics) > 1:
            notes.append(f"Of different metrics: {', '.join(metrics)}.")
        title = f"all targets: mean {' and '.join(metrics)}"
        label = "mean, %" if is_share(metric) else "mean"
        found.append(Part("", title, metric, label, comparison["mean"], comparison, notes))
    for target in targets:
        rows = f"{target['rows_scored']:,} rows of {target['scored_on']}"
        notes = [f"Intervals: paired bootstrap over {rows}, {target['draws']:,} draws."] if target["draws"] else []
        title = f"{target['task']}: {target['metric']} on {target['scored_on']}"
        label = metric_label(target["metric"])
        found.append(Part(target["task"], title, target["metric"], label, target["rows"], comparison, notes))
    return found


def costs_tables(comparison: Mapping[str, Any]) -> list[Table]:
    """The table of times and memory of one batch; none if they were not measured."""
    costs = comparison["costs"]
    if costs is None:
        return []
    names = {row["line"]: column_label(row) for target in comparison["targets"] for row in target["rows"]}
    lines = [
        [
            names.get(line, line),
            *(f"{1000 * one[f'{what}_seconds']:.3g}" for what in ("train", "inference")),
            *(_ratio(one[f"{what}_ratio"]) for what in ("train", "inference")),
            *(size(one[f"{what}_bytes"]) for what in ("train", "inference")),
            *(_ratio(one.get(f"{what}_memory_ratio")) for what in ("train", "inference")),
        ]
        for line, one in costs["lines"].items()
    ]
    batch = costs["batch"]
    notes = [
        f"One batch of {batch['rows']} rows of {batch['task']}, {batch['length']} long ({batch['device']}"
        f"{', bfloat16' if batch['bf16'] else ''}{', gradient checkpointing' if batch['gradient_checkpointing'] else ''}).",
        f"Times: the median of {batch['rounds']} rounds in turn with full fine-tuning. Memory: the peak of a process of its own "
        "beyond what it has without a model.",
    ]
    ratios = ["step, ×", "answer, ×"]
    columns = ["", "ms a step", "ms an answer", *ratios, "peak, step", "peak, answer", *ratios]
    return [Table("Costs, and their ratios to full fine-tuning", columns, lines, notes)]


def interval(difference: Mapping[str, Any] | None, metric: str) -> str:
    """A difference with its interval, as scores are shown."""
    if difference is None:
        return ""
    value, low, high = (_signed(difference[key], metric) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _signed(value: float, metric: str) -> str:
    text = change(value, metric)
    return text if float(text) else text[1:]  # zero has no sign


def verdict_of(difference: Mapping[str, Any] | None) -> tuple[str, str]:
    """A difference in words, and its p value."""
    if difference is None:
        return "", ""
    p = f"{difference['p']:.2g}" if difference["p"] >= 0.001 else "< 0.001"
    if not difference["clear"]:
        return "cannot be told apart", p
    return "better" if difference["value"] > 0 else "worse", p


def _ratio(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"
