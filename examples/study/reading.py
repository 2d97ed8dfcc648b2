"""What the study's table is read by: the fusion against every other column, seed by seed, and where it looks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.attention import attention_of
from graftwork.report.table import Table

FUSION = ("fusion", "")
Row = Mapping[str, Any]
Column = tuple[str, str]  # the kind of training, and the method where it is of one


def against(rows: Mapping[tuple[str, str, str], Row], targets: Sequence[str], columns: Mapping[Column, str]) -> Table:
    """How much better the fusion is than each other column, in points, over the seeds that have both.

    Args:
        rows: The results of the targets by kind, method and target.
        targets: The tasks.
        columns: What each column is called.
    """
    lines = []
    for column, label in columns.items():
        pairs = {target: _pairs(rows.get((*FUSION, target)), rows.get((*column, target))) for target in targets}
        every = [pair for target in targets for pair in pairs[target]]
        if column == FUSION or not every:
            continue
        cells = [f"{statistics.fmean(pairs[target]):+.1f}" if pairs[target] else "" for target in targets]
        whole = all(pairs.values())
        mean = _signed(every) if whole else ""
        lines.append([label, *cells, mean, f"{sum(pair > 0 for pair in every)} of {len(every)}"])
    return Table(
        "The fusion against each, in points",
        ["", *targets, "mean", "better in"],
        lines,
        [
            "Mean over the seeds that have both; the last two columns are over all pairs of a target and a seed, "
            "the mean with its standard error."
        ],
    )


def looks(results: Mapping[str, Any], targets: Sequence[str]) -> Table:
    """How much of its attention the fusion gives to the target's own adapter, and to which other the most."""
    lines = []
    for target in targets:
        seen = attention_of(results, target)
        if seen is None or seen.own is None:
            continue
        mean = seen.weights.mean(0)
        other = max((n for n in range(len(mean)) if n != seen.own), key=lambda n: mean[n])
        leads = sum(int(row.argmax()) == seen.own for row in seen.weights)
        named = f"{seen.adapters[other]} {mean[other]:.2f}"
        lines.append([target, f"{mean[seen.own]:.2f}", f"{1 / len(mean):.2f}", f"{leads} of {len(seen.sites)}", named])
    return Table(
        "Where the fusion of all looks",
        ["target", "own adapter", "if even", "own leads in layers", "most other"],
        lines,
        ["Mean attention over dev rows, layers and seeds."],
    )


def _pairs(one: Row | None, other: Row | None) -> list[float]:
    """The differences in points, seed by seed."""
    if one is None or other is None:
        return []
    theirs = dict(zip(other["seeds"], other["scores"], strict=True))
    scores = zip(one["seeds"], one["scores"], strict=True)
    return [100 * (score - theirs[seed]) for seed, score in scores if seed in theirs]


def _signed(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):+.1f}"
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else mean
