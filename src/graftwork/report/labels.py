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
    rows = []
    for line in _lines(evidence):
        counts = np.array(evidence["confusion"][line])
        share = counts.sum(1) / max(counts.sum(), 1)
        shown = 100 * np.array([share, *_scores(counts)]).T
        rows += [
            [label, names[line], *(f"{value:.1f}" for value in values)]
            for label, values in zip(evidence["labels"], shown, strict=True)
        ]
    columns = ["label", "trained", "% of rows", "precision", "recall", "F1"]
    rows.sort(key=lambda row: evidence["labels"].index(row[0]))  # what is compared stands together
    note = "In percent, over all seeds. % of rows: how common a label is."
    return Table(f"{evidence['task']}: scores by label", columns, rows, [note])


def confusion_picture(evidence: Mapping[str, Any], names: Mapping[str, str]) -> Picture:
    """The picture of how often each label was answered by each, for the same two."""
    title = f"{evidence['task']}: confusion of labels"
    caption = (
        "A row is the right label, a column the answer. Numbers count rows over all seeds; the colour is a row's share."
    )
    return Picture(f"confusion-{evidence['task']}", partial(_figure, evidence, names, title), title, caption)


def _figure(evidence: Mapping[str, Any], names: Mapping[str, str], title: str) -> Any:
    lines = _lines(evidence)
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


def _lines(evidence: Mapping[str, Any]) -> list[str]:
    """What a report is about and its control, as far as their answers were counted."""
    return [line for line in (evidence["subject"], evidence["control"]) if line in evidence["confusion"]]


def _scores(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 ``(3, labels)`` from counts of (right, answered)."""
    hits, answered, right = np.diag(counts), counts.sum(0), counts.sum(1)
    both = answered + right
    return np.array([hits / np.maximum(answered, 1), hits / np.maximum(right, 1), 2 * hits / np.maximum(both, 1)])
