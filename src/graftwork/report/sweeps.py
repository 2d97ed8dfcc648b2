"""The report of a sweep: a table of its trials, and a picture of their scores by each value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from graftwork.checkpoint.folders import replace_file
from graftwork.experiments import read_sweep
from graftwork.report.formatting import metric_label, scale, score
from graftwork.report.plots import can_plot, panels, png
from graftwork.report.table import Table, print_text

PICTURE, TABLE = "sweep.png", "sweep.txt"


def print_sweep(folder: Path, console: Console) -> None:
    """Write the table of a sweep, and its picture where matplotlib is installed, into its folder; print the table and the files."""
    found = read_sweep(folder)
    table = sweep_table(found)
    replace_file(folder / TABLE, table.text().encode())
    files = [TABLE, "best.toml"]
    if can_plot():
        replace_file(folder / PICTURE, png(sweep_picture(found)))
        files.append(PICTURE)
    if console.is_terminal:
        console.print(table.rich())
    else:
        print_text(table.text(), console)
    print_text(f"  {folder}: {', '.join(files)}", console)
    print_text(
        f"\nNext:\n  graftwork run {folder / 'best.toml'}\n  graftwork show {folder / 'trials' / found['best']}",
        console,
    )


def sweep_table(found: Mapping[str, Any]) -> Table:
    """The trials of a sweep (`graftwork.experiments.read_sweep`), the best first, then those that have no score."""
    keys = [one["key"] for one in found["over"]]
    order = sorted(found["trials"], key=lambda one: (one["score"] is None, -(one["score"] or 0.0)))
    rows = [
        [one["trial"], *(_value(one["values"].get(key)) for key in keys), _result(one, found["metric"])]
        for one in order
    ]
    return Table(
        f"Trials of {found['kind']} on {', '.join(found['targets'])}",
        ["trial", *keys, f"dev {metric_label(found['metric'])}"],
        rows,
        [f"trial {one['trial']} failed: {one['why'].splitlines()[0]}" for one in order if one["why"]],
    )


def sweep_picture(found: Mapping[str, Any]) -> Any:
    """A figure with a panel for each key: the scores of all trials by its value."""
    done = [one for one in found["trials"] if one["score"] is not None]
    factor, _ = scale(found["metric"])
    label = f"dev {metric_label(found['metric'])}"
    figure, axes = panels(len(found["over"]), 4.5, 3.2, f"{found['kind']}: {label} by each value")
    for ax, swept in zip(axes, found["over"], strict=True):
        values = [one["values"][swept["key"]] for one in done]
        at = [swept["choices"].index(value) for value in values] if swept["choices"] else values
        best = [one["trial"] == found["best"] for one in done]
        ax.scatter(at, [factor * one["score"] for one in done], c=["C1" if one else "C0" for one in best])
        if swept["choices"]:
            ax.set_xticks(range(len(swept["choices"])), [*map(str, swept["choices"])])
            ax.set_xlim(-0.5, len(swept["choices"]) - 0.5)
        elif swept["log"]:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")  # by default formulas
            ax.xaxis.set_minor_formatter("")
        ax.set(xlabel=swept["key"], ylabel=label)
        ax.grid(alpha=0.3)
    return figure


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _result(trial: Mapping[str, Any], metric: str) -> str:
    return trial["state"] if trial["score"] is None else score(trial["score"], metric)
