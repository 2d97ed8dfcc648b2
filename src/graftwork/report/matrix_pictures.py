"""What is forgotten, as pictures: each score on a colour that says how it changed since its task was learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from graftwork.report.plots import new_figure
from graftwork.report.sequences import Matrix, figures, full_colour
from graftwork.report.words import metric_label
from graftwork.training.planning.kinds import UNIT_KINDS

# Near the ends of matplotlib's RdBu, which the colour-blind tell apart.
_LOST, _WON = (178, 24, 43), (33, 102, 172)
_NOTHING = "#dcdcdc"  # where a task is not learnt yet, which is not white as what has not changed is


def forgetting_html(seen: Sequence[Matrix]) -> str:
    """Coloured tables beside each other, with one caption.

    Args:
        seen: One or more.
    """
    full = full_colour(seen)
    parts = "\n".join(_one(matrix, full) for matrix in seen)
    return f'<figure><div class="beside">\n{parts}\n</div>\n<figcaption>{escape(caption(full))}</figcaption></figure>'


def caption(full: int) -> str:
    """How the pictures are read."""
    return (
        "A row is the model after one more task, a column a task. The number is its score, the colour how that changed since "
        f"the task was learnt (on the diagonal): red is forgotten, blue is won, in full from {full} points on. Where nothing is "
        "forgotten, every column keeps its number and stays white."
    )


def forgetting_figure(seen: Sequence[Matrix]) -> Any:
    """The same for a file: on one scale of colours.

    Raises:
        GraftworkError: If matplotlib is not installed.
    """
    full, most = full_colour(seen), max(len(one.order) for one in seen)
    figure = new_figure(1.5 + len(seen) * max(0.75 * most + 1.6, 3.6), max(0.45 * most + 2.2, 3.2))
    axes = figure.subplots(1, len(seen), squeeze=False).flat
    image = None
    for ax, one in zip(axes, seen, strict=True):
        image = _draw(ax, one, full)
    figure.suptitle("what is forgotten: scores of tasks, task after task")
    figure.colorbar(image, ax=figure.axes, label="change since it was learnt, points", shrink=0.8)
    return figure


def _one(matrix: Matrix, full: int) -> str:
    tasks = range(len(matrix.order))
    heads = "".join(
        f'<th scope="col" title="{escape(metric_label(metric))}">{escape(task)}</th>'
        for task, metric in zip(matrix.order, matrix.metrics, strict=True)
    )
    rows = "\n".join(
        f'<tr><th scope="row">{step + 1}. {escape(matrix.order[step])}</th>'
        f"{''.join(_cell(matrix, step, task, full) for task in tasks)}</tr>"
        for step in tasks
    )
    said = "".join(f'<p class="note">{escape(figure)}</p>' for figure, _ in figures(matrix))
    return (
        f'<div class="wide"><h3>{escape(_title(matrix))}</h3>\n<table class="heat">\n<thead><tr><th scope="col">learnt</th>'
        f"{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>\n{said}</div>"
    )


def _title(matrix: Matrix) -> str:
    mean = f" (mean of {matrix.seeds} seeds)" if matrix.seeds > 1 else ""
    return f"{UNIT_KINDS[matrix.kind].title}{mean}"


def _cell(matrix: Matrix, step: int, task: int, full: int) -> str:
    change = float(matrix.changes[step, task])
    if math.isnan(change):
        return "<td></td>"
    share = min(abs(change) / full, 1.0)
    red, green, blue = (round(255 + share * (end - 255)) for end in (_LOST if change < 0 else _WON))
    ink = "#ffffff" if share > 0.6 else "#1a1a1a"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{matrix.shown(step, task)}</td>'


def _draw(ax: Any, one: Matrix, full: int) -> Any:
    changes = np.ma.masked_invalid(one.changes)
    image = ax.imshow(changes, cmap="RdBu", vmin=-full, vmax=full, aspect="auto", interpolation="nearest")
    ax.set_facecolor(_NOTHING)
    names = [f"{n + 1}. {task}" for n, task in enumerate(one.order)]
    ax.set_xticks(range(len(names)), one.order, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.set_title(_title(one), fontsize="medium")
    ax.set(xlabel=" and ".join(dict.fromkeys(map(metric_label, one.metrics))), ylabel="learnt")
    for step in range(len(names)):
        for task in range(step + 1):
            colour = "white" if abs(changes[step, task]) > 0.6 * full else "black"
            ax.text(task, step, one.shown(step, task), ha="center", va="center", color=colour, fontsize="small")
    return image
