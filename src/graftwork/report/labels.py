"""What a target's predictions are by label: a table of each label's scores, and the picture of the confusion."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from graftwork.report.picture import Picture
from graftwork.report.plots import heat, panels
from graftwork.report.table import Table

_MOST = 30  # of the letters of a label that are drawn


def label_table(evidence: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """The precision, recall and F1 of every label, for what a report is about and its control.

    Args:
        evidence: What the predictions for a target say, with a confusion.
        names: The names of the lines.
    """
    lines = [line for line in (evidence["subject"], evidence["control"]) if line in evidence["confusion"]]
    scores = {line: _scores(np.array(evidence["confusion"][line])) for line in lines}
    seeds_rows = np.array(evidence["confusion"][lines[0]]).sum(1)
    share = seeds_rows / max(seeds_rows.sum(), 1)
    rows = [
        [label, f"{100 * share[n]:.1f}", *(f"{100 * value:.1f}" for line in lines for value in scores[line][:, n])]
        for n, label in enumerate(evidence["labels"])
    ]
    heads = [
        f"{what}{f', {names[line]}' if n else ''}"
        for n, line in enumerate(lines)
        for what in ("precision", "recall", "F1")
    ]
    note = f"In percent, over all seeds; the first three columns are of {names[lines[0]]}. % of rows: how common a label is."
    return Table(f"{evidence['task']}: scores by label", ["label", "% of rows", *heads], rows, [note])


def confusion_picture(evidence: Mapping[str, Any], names: Mapping[str, str]) -> Picture:
    """The picture of how often each label was answered by each, for the same two."""
    title = f"{evidence['task']}: confusion of labels"
    caption = (
        "A row is the right label, a column the answer. Numbers count rows over all seeds; the colour is a row's share."
    )
    return Picture(f"confusion-{evidence['task']}", partial(_figure, evidence, names, title), title, caption)


def _figure(evidence: Mapping[str, Any], names: Mapping[str, str], title: str) -> Any:
    lines = [line for line in (evidence["subject"], evidence["control"]) if line in evidence["confusion"]]
    labels = [label if len(label) <= _MOST else f"{label[: _MOST - 1]}…" for label in evidence["labels"]]
    side = max(0.5 * len(labels) + 1.6, 3.0)
    figure, axes = panels(len(lines), side, side - 0.4, title, columns=2)
    for ax, line in zip(axes, lines, strict=True):
        counts = np.array(evidence["confusion"][line])
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        heat(ax, shares, [[str(n) for n in row] for row in counts], labels, labels, cmap="Blues", vmin=0.0, vmax=1.0)
        ax.set_title(names[line], fontsize="medium")
        ax.set(xlabel="answered", ylabel="right")
    return figure


def _scores(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 ``(3, labels)`` from counts of (right, answered)."""
    hits, answered, right = np.diag(counts), counts.sum(0), counts.sum(1)
    both = answered + right
    return np.array([hits / np.maximum(answered, 1), hits / np.maximum(right, 1), 2 * hits / np.maximum(both, 1)])
