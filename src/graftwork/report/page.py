"""A run as one page of HTML that needs nothing else: tables that sort, heat maps, curves, the recipe, the versions."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from graftwork.checkpoint.folders import replace_file
from graftwork.report.attention import Attention, attentions
from graftwork.report.by_task import by_task_html, kinds_of_all
from graftwork.report.comparison import comparison_sections
from graftwork.report.curves import colour, label_of, methods_in
from graftwork.report.files import state
from graftwork.report.gathered import Gathered, gather
from graftwork.report.matrix_pictures import forgetting_html
from graftwork.report.sequences import matrices
from graftwork.report.svg import Line, chart
from graftwork.report.table import MISSING, Table
from graftwork.report.tables import tables
from graftwork.report.words import column_label, is_share, kind_label, metric_label
from graftwork.training.planning.kinds import KINDS
from graftwork.training.running.folder import RECIPE
from graftwork.training.running.records import read_record

PAGE = "report.html"
_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_NUMBER = re.compile(r"([+-]?[\d,]*\.?\d+)(?: ± [\d.]+)?(?: (KB|MB|GB|TB))?\*?(?: of \d+)?(?: \[[^]]*\])?")
_PACKAGES = ("graftwork", "torch", "transformers", "accelerate", "safetensors")


def write_page(run: str | Path, to: str | Path | None = None) -> Path:
    """Write the page of a run, of what is done so far.

    Args:
        run: The run's folder.
        to: The file; by default ``report.html`` in that folder.

    Returns:
        The file.

    Raises:
        RecipeError: If the folder is none of a run.
    """
    found = gather(run)
    path = found.run / PAGE if to is None else Path(to)
    replace_file(path, page(found).encode("utf-8", "backslashreplace"))
    return path


def page(found: Gathered) -> str:
    """The page as text."""
    title = escape(found.run.resolve().name)
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="state">{escape(state(found))}</p>',
        *(_section(title, body) for title, body in comparison_sections(found.comparison, _table)),
        *(_section(table.title, _table(table)) for table in tables(found.results, found.units)),
        *_forgetting(found),
        *_heat_maps(found),
        *_curves(found),
        _section(
            "Recipe",
            f"<pre>{escape(json.dumps(read_record(found.run / RECIPE, Any), indent=1, ensure_ascii=False))}</pre>",
        ),
        _section("Versions of what wrote this page", f"<pre>{escape(versions())}</pre>"),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>\n{_asset("page.css")}</style>\n'
        f"</head>\n<body>\n{chr(10).join(parts)}\n<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"
    )


def versions() -> str:
    """Python and the packages that matter, a line each."""
    lines = [f"python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return "\n".join(lines)


def _asset(name: str) -> str:
    return (resources.files("graftwork.report") / "assets" / name).read_text(encoding="utf-8")


def _section(title: str, body: str, notes: Iterable[str] = ()) -> str:
    said = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n{said}</section>"


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"><button type="button">{escape(c) or "&nbsp;"}</button></th>' for c in table.columns
    )
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="wide"><table class="sortable">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
        f"{notes}"
    )


def _cell(text: str) -> str:
    missing = ' class="missing"' if MISSING in text else ""
    return f'<td data-sort="{escape("" if missing else sort_key(text))}"{missing}>{escape(text)}</td>'


def sort_key(text: str) -> str:
    """What a cell is sorted by: its number, sizes in bytes, else its text."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    value = float(number[1].replace(",", "")) * _UNITS.get(number[2], 1)
    return f"{value:.12g}"


def _heat_maps(found: Gathered) -> list[str]:
    return [
        _section(f"Where the fusion for {one.target} looks: {kind_label(one.kind, len(one.adapters))}", _heat_map(one))
        for one in attentions(found.results, found.recipe.targets)
    ]


def _forgetting(found: Gathered) -> list[str]:
    seen = matrices(found.results)
    return [_section("What is forgotten, task after task", forgetting_html(seen))] if seen else []


def _heat_map(one: Attention) -> str:
    heads = "".join(
        f'<th scope="col"{" class=own" if n == one.own else ""}>{escape(adapter)}</th>'
        for n, adapter in enumerate(one.adapters)
    )
    rows = []
    for site, weights in zip(one.sites, one.weights, strict=True):
        cells = "".join(_heat(float(weight)) for weight in weights)
        rows.append(f'<tr><th scope="row">{escape(site)}</th>{cells}</tr>')
    mean = f", the mean of {one.seeds} seeds" if one.seeds > 1 else ""
    own = "; the target's own adapter is underlined" if one.own is not None else ""
    return (
        f'<figure class="wide"><table class="heat">\n<thead><tr><th scope="col">site</th>{heads}</tr></thead>\n<tbody>\n'
        f"{chr(10).join(rows)}\n</tbody></table>\n<figcaption>Attention on the dev rows{mean}; each row adds up to 1{own}."
        "</figcaption></figure>"
    )


def _heat(weight: float) -> str:
    """A cell between white and dark blue, its text readable on both."""
    share = min(max(weight, 0.0), 1.0)
    red, green, blue = (round(255 + share * (end - 255)) for end in (8, 64, 129))
    ink = "#ffffff" if share > 0.45 else "#1a1a1a"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{weight:.2f}</td>'


def _curves(found: Gathered) -> list[str]:
    sections = []
    for task in found.recipe.tasks:
        units = [unit for unit in found.results["units"] if unit["task"] == task]
        if units:
            what = "its trainings" if task in found.recipe.targets else "a source"
            sections.append(_section(f"{task}: {what}", _two_charts(units)))
    for units in kinds_of_all(found.results["units"]).values():
        title = kind_label(units[0]["kind"], 0, units[0].get("method", ""))
        sections.append(_section(f"All tasks: {title}", by_task_html(units)))
    return sections


def _two_charts(units: Sequence[Mapping[str, Any]]) -> str:
    units = sorted(units, key=lambda unit: KINDS.index(unit["kind"]))
    methods = methods_in(units)
    losses = [Line(unit["unit"], colour(unit, methods), _points(unit["curves"]["loss"])) for unit in units]
    scores = [
        Line(
            unit["unit"],
            colour(unit, methods),
            _points(unit["curves"]["score"], unit["metric"]),
            unit["best_epoch"] - 1,
        )
        for unit in units
    ]
    metrics = ", ".join(sorted({metric_label(unit["metric"]) for unit in units}))
    shown = {label_of(unit): unit for unit in units}.values()
    named = [(colour(unit, methods), column_label(unit["kind"], unit.get("method", ""))) for unit in shown]
    legend = "".join(f'<span><i style="background:{paint}"></i>{escape(name)}</span>' for paint, name in named)
    charts = chart(losses, "step", "loss") + chart(scores, "epoch", f"{metrics} on dev")
    return (
        f'<figure><p class="legend">{legend}</p>{charts}<figcaption>Left the loss, right {escape(metrics)} on the dev rows; the '
        "best epoch is dotted.</figcaption></figure>"
    )


def _points(curve: Sequence[Sequence[float]], metric: str = "") -> list[tuple[float, float]]:
    factor = 100 if is_share(metric) else 1
    return [(float(x), factor * float(y)) for x, y in curve]
