"""What trainings on tasks in sequence forget, as the mean over the seeds: figures, a table and a plot for each kind."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.experiments.kinds import KINDS, UNIT_KINDS
from graftwork.report.formatting import change, is_of_hundred, metric_label, points, score
from graftwork.report.plots import heat, panels
from graftwork.report.table import Table
from graftwork.training.scores import mean_metric

BEST = "*"
_LEAST = 5  # points that have the full colour at least, so that a change by chance has a pale one
_NOTHING = "#dcdcdc"  # the colour of a task that is not learnt yet; white is a score that has not changed
# The name, the format and the meaning of each figure of `graftwork.experiments.running.forgetting`.
_FIGURES = {
    "average_forgetting": ("Average forgetting", score, "how far the tasks but the last fell from their best"),
    "backward_transfer": ("Backward transfer", change, "how the tasks but the last changed since each was learnt"),
    "forward_transfer": (
        "Forward transfer",
        change,
        "how much better the tasks but the first were learnt here than alone",
    ),
}


@dataclasses.dataclass(frozen=True)
class Matrix:
    """The scores of one kind of training in sequence.

    Attributes:
        kind: The kind of training.
        order: The tasks in the order in which they were learnt.
        scores: ``scores[i, j]`` is the score of task j after step i, the mean over the seeds; NaN if j is not learnt yet.
        metrics: The tasks' metrics, in that order.
        seeds: The number of seeds.
        figures: The value of each seed by the figure's name; without those that no seed has.
        scored_on: The split that it was scored on.
    """

    kind: str
    order: list[str]
    scores: NDArray[np.float64]
    metrics: list[str]
    seeds: int
    figures: dict[str, list[float]]
    scored_on: str

    @property
    def title(self) -> str:
        """The kind of training, with the number of seeds if there are several."""
        return f"{UNIT_KINDS[self.kind].title}{f' (mean of {self.seeds} seeds)' if self.seeds > 1 else ''}"

    @property
    def changes(self) -> NDArray[np.float64]:
        """The change of each score since its task was learnt, in points of a hundred."""
        hundred = [1.0 if is_of_hundred(metric) else 100.0 for metric in self.metrics]
        return (self.scores - np.diag(self.scores)) * np.array(hundred)

    def shown(self, step: int, task: int) -> str:
        """A score as it is shown; empty if the task is not learnt yet."""
        value = float(self.scores[step, task])
        return "" if math.isnan(value) else score(value, self.metrics[task])


def matrices(results: Mapping[str, Any]) -> list[Matrix]:
    """A matrix for each kind of sequence in ``results.json``, in the order of the kinds."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(results.get("sequences", []), key=lambda row: KINDS.index(row["kind"])):
        of_kind = found.setdefault(row["kind"], [])
        if not of_kind or row["order"] == of_kind[0]["order"]:  # another order is another sequence
            of_kind.append(row)
    return [_matrix(kind, rows, results.get("units", [])) for kind, rows in found.items()]


def forgetting_tables(results: Mapping[str, Any]) -> list[Table]:
    """A table for each kind of sequence in ``results.json``: a line for each step, a column for each task."""
    return [_table(one) for one in matrices(results)]


def full_colour(seen: Sequence[Matrix]) -> int:
    """The change, in points, that has the full colour in plots of some matrices."""
    largest = max(float(np.nanmax(np.abs(one.changes))) for one in seen)
    return max(_LEAST, math.ceil(largest - 1e-9))


def caption(full: int) -> str:
    """How to read a plot of matrices in which a change of ``full`` points has the full colour."""
    return (
        "A row is the model after one more task, a column a task. The number is its score, the colour how that changed since "
        f"the task was learnt (on the diagonal): red is forgotten, blue is won, in full from {full} points on. Where nothing is "
        "forgotten, every column keeps its number and stays white."
    )


def forgetting_figure(seen: Sequence[Matrix]) -> Any:
    """A figure of one matrix or more on one colour scale: scores, coloured by their change since the task was learnt."""
    full, most = full_colour(seen), max(len(one.order) for one in seen)
    title = "what is forgotten: scores of tasks, task after task"
    figure, axes = panels(
        len(seen), max(0.75 * most + 1.6, 3.6), max(0.45 * most + 1.4, 2.4), title, columns=len(seen), margin=0.8
    )
    from matplotlib import colormaps  # after `panels`, whose error says what to install

    colours = {"cmap": colormaps["RdBu"].with_extremes(bad=_NOTHING), "vmin": -full, "vmax": full}
    for ax, one in zip(axes, seen, strict=True):
        steps = range(len(one.order))
        texts = [[one.shown(step, task) for task in steps] for step in steps]
        rows = [f"{n + 1}. {task}" for n, task in enumerate(one.order)]
        image = heat(ax, np.ma.masked_invalid(one.changes), texts, rows, one.order, **colours)
        ax.set_title(one.title, fontsize="medium")
        ax.set(xlabel=" and ".join(dict.fromkeys(map(metric_label, one.metrics))), ylabel="learnt")
    figure.colorbar(image, ax=axes, label="change since it was learnt, points", shrink=0.8)
    return figure


def _matrix(kind: str, rows: Sequence[Mapping[str, Any]], units: Sequence[Mapping[str, Any]]) -> Matrix:
    order = list(rows[0]["order"])
    scores = np.full((len(order), len(order)), np.nan)
    for step in range(len(order)):
        scores[step, : step + 1] = np.mean([row["scores"][step] for row in rows], axis=0)
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in _FIGURES}
    scored_on = sorted({unit["scored_on"] for unit in units if unit["kind"] == kind})
    return Matrix(
        kind,
        order,
        scores,
        [rows[0]["metrics"][task] for task in order],
        len(rows),
        {name: found for name, found in values.items() if found},
        " and ".join(scored_on),
    )


def _table(one: Matrix) -> Table:
    same = len(set(one.metrics)) == 1
    heads = one.order if same else [f"{t}: {metric_label(m)}" for t, m in zip(one.order, one.metrics, strict=True)]
    lines = []
    for step, learnt in enumerate(one.order):
        cells = [one.shown(step, task) + (BEST if _is_best(one, step, task) else "") for task in range(len(one.order))]
        lines.append([str(step + 1), learnt, *cells])
    measured = f"{metric_label(one.metrics[0])} on " if same else "on "
    mean = f", mean of {one.seeds} seeds" if one.seeds > 1 else ""
    title = f"What is forgotten: {UNIT_KINDS[one.kind].title} ({measured}{one.scored_on}{mean})"
    each = ", in each seed from its own" if one.seeds > 1 else ""
    best = f"{BEST} the best of a task before the last step; forgetting is counted from it{each}."
    notes = [f"{figure}: {meaning}." for figure, meaning in figures(one)]
    return Table(title, ["step", "learnt", *heads], lines, [*notes, best])


def _is_best(one: Matrix, step: int, task: int) -> bool:
    """Whether a score is its task's best before the last step; of equal ones the first is."""
    earlier = one.scores[task:-1, task]
    return bool(earlier.size) and step == task + int(np.argmax(earlier))


def figures(one: Matrix) -> list[tuple[str, str]]:
    """The figures of a matrix as they are shown, with the mean and spread over the seeds, and their meanings."""
    metric, found = mean_metric(one.metrics), []
    for name, values in one.figures.items():
        title, printed, meaning = _FIGURES[name]
        spread = f" ± {score(statistics.stdev(values), metric)}" if len(values) > 1 else ""
        found.append((f"{title} {printed(statistics.fmean(values), metric)}{spread}{points(metric)}", meaning))
    return found
