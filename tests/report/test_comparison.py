"""A comparison as tables, as a picture, and on a page."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import re
from pathlib import Path

import pytest

from graftwork.report import comparison_tables, gather, write_report
from graftwork.report.comparison import interval, parts
from graftwork.report.comparison_plot import comparison_plot, decades
from graftwork.report.page import page, sort_key
from graftwork.report.plots import png, svg
from graftwork.report.run_data import Gathered
from tests.report.made_up import RECIPE, UNITS, comparison_of, difference, results_of
from tests.report.test_page import Outline

needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")


def test_a_target_has_all_in_one_table_and_what_can_be_told_apart_in_another() -> None:
    tables = {table.title: table for table in comparison_tables(comparison_of())}
    assert list(tables) == [
        "all targets: mean accuracy and f1, mean ± sd over the seeds",
        "all targets: what can be told apart",
        "rte: accuracy on test, mean ± sd over the seeds",
        "rte: what can be told apart",
        "mrpc: f1 on test, mean ± sd over the seeds",
        "mrpc: what can be told apart",
        "Costs, and their ratios to full fine-tuning",
    ]
    rte = tables["rte: accuracy on test, mean ± sd over the seeds"]
    heads = ["accuracy, %", "to full [95 %]", "weights", "% of full", "a task", "file", "train", "infer", "memory"]
    assert rte.columns == ["", *heads]
    rows = {row[0]: row[1:] for row in rte.rows}
    assert list(rows) == ["head only", "full fine-tuning", "houlsby", "a <b>", "shared adapter, all tasks"]
    assert rows["head only"][:6] == ["55.0 ± 1.0", "-7.0 [-10.0, -4.0]", "770", "0.00339", "770", "4.20 KB"]
    assert rows["full fine-tuning"][1:6] == ["", "22,700,000", "100", "22,700,000", "90.8 MB*"]
    assert rows["houlsby"][6:] == ["0.70", "1.02", "0.60"]
    assert rows["shared adapter, all tasks"][2:5] == ["602,000", "2.65", "301,000"]
    assert any("277 rows of test, 1,000 draws" in note for note in rte.notes)
    assert not any("One seed" in note for note in rte.notes)


def test_an_interval_that_holds_0_is_no_difference() -> None:
    apart = {table.title: table for table in comparison_tables(comparison_of())}["rte: what can be told apart"]
    rows = {row[0]: row[1:] for row in apart.rows}
    assert rows["houlsby"] == [
        "cannot be told apart",
        "0.31",
        "a <b>",
        "-1.0 [-4.0, +2.0]",
        "cannot be told apart",
        "0.31",
    ]
    assert rows["head only"][0] == "worse" and rows["a <b>"][:2] == ["better", "< 0.001"]
    assert rows["full fine-tuning"][:2] == ["", ""]


def test_one_seed_is_told_and_has_no_spread() -> None:
    rte = comparison_tables(comparison_of(seeds=1))[2]
    assert rte.title == "rte: accuracy on test" and rte.rows[0][1] == "55.0"
    assert any(note.startswith("One seed: the intervals have the noise of the rows") for note in rte.notes)


def test_without_costs_there_are_no_columns_of_them() -> None:
    tables = comparison_tables(comparison_of(costs=False))
    assert tables[2].columns[-1] == "file" and not any(table.title.startswith("Costs") for table in tables)
    assert comparison_tables(None) == []


def test_the_batch_is_told() -> None:
    costs = comparison_tables(comparison_of())[-1]
    assert costs.notes[0] == "One batch of 16 rows of rte, 64 long (CPU, 2 threads)."
    assert costs.rows[2] == ["houlsby", "300", "50", "0.70", "1.02", "300 MB", "90.0 MB", "0.60", "1.00"]


@pytest.mark.parametrize(
    ("value", "half", "metric", "text"),
    [
        (0.0124, 0.03, "accuracy", "+1.2 [-1.8, +4.2]"),
        (-0.00001, 0.0, "accuracy", "0.0 [0.0, 0.0]"),
        (0.5, 1.0, "bleu", "+0.5 [-0.5, +1.5]"),
        (-0.02, 0.01, "matthews", "-0.020 [-0.030, -0.010]"),
    ],
)
def test_an_interval_is_written_as_scores_are_and_sorts_by_its_difference(
    value: float, half: float, metric: str, text: str
) -> None:
    assert interval(difference(value, half), metric) == text
    assert float(sort_key(text)) == float(text.split()[0])


def test_the_page_shows_it_first_and_holds_any_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    text = page(Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS), comparison_of()))
    found = Outline(text)
    assert not found.open
    assert found.heads[1].startswith("all targets: mean accuracy and f1")
    assert "<b>" not in text and "a &lt;b&gt;" in text
    drawn = re.findall(r'<svg[^>]*aria-label="([^"]*)"', text)
    by_weights = [f"{y} by trained weights a task" for y in ("mean, %", "accuracy, %", "f1, %")]
    bars = [f"{task}: scores" for task in ("all targets", "rte", "mrpc")]
    assert drawn[:6] == [one for pair in zip(bars, by_weights, strict=True) for one in pair]


def test_a_folder_that_compared_is_shown_so(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE.model_dump(mode="json", exclude_unset=True)))
    assert gather(tmp_path).comparison is None
    (tmp_path / "comparison.json").write_text(json.dumps(comparison_of()))
    write_report(tmp_path, plots=False)
    for name in ("results.md", "results.txt"):
        assert "rte: what can be told apart" in (tmp_path / name).read_text()


@needs_matplotlib
def test_the_picture_has_a_panel_for_the_mean_and_each_target() -> None:
    comparison = comparison_of()
    figure = comparison_plot(parts(comparison))
    assert [ax.get_title() for ax in figure.axes] == [
        "all targets: mean accuracy and f1",
        "rte: accuracy on test",
        "mrpc: f1 on test",
    ]
    _, rte, _ = figure.axes
    assert rte.get_xscale() == "log"
    assert [text.get_text() for text in rte.texts] == [
        "head only",
        "full fine-tuning",
        "houlsby",
        "a <b>",
        "shared adapter, all tasks",
    ]
    places = [tuple(text.xy) for text in rte.texts]
    rows = comparison["targets"][0]["rows"]
    assert places == [pytest.approx((row["weights_a_task"], 100 * row["mean"])) for row in rows]
    colours = [container.lines[0].get_color() for container in rte.containers]
    assert len(set(colours)) == 5
    assert png(figure).startswith(b"\x89PNG")


@needs_matplotlib
def test_what_trains_nothing_is_a_line_across() -> None:
    (part,) = parts(comparison_of())[1:2]
    bare = {**part.rows[0], "kind": "zero_shot", "line": "zero_shot", "mean": 0.5, "weights_a_task": 0}
    (ax,) = comparison_plot([dataclasses.replace(part, rows=[bare, *part.rows])]).axes
    assert "base, zero-shot" in [text.get_text() for text in ax.texts]
    assert [list(line.get_ydata()) for line in ax.lines if line.get_linestyle() == ":"] == [[50, 50]]
    assert ax.get_xlim() == (100, 1e8)


@needs_matplotlib
def test_points_lie_by_the_powers_of_ten() -> None:
    figure = comparison_plot(parts(comparison_of())[1:2])
    (rte,) = figure.axes
    figure.draw_without_rendering()
    assert rte.get_xlim() == (100, 1e8) and rte.get_xlabel() == "trained weights a task"
    ticks = dict(zip(rte.get_xticks(), (label.get_text() for label in rte.get_xticklabels()), strict=True))
    assert [ticks[10**n] for n in (2, 3, 5, 6, 7)] == ["100", "1k", "100k", "1M", "10M"]
    low, high = rte.get_ylim()
    assert low < 54 and high > 67  # every point with its spread
    text = svg(figure)
    assert "<title>houlsby: 620,000 weights, 63</title>" in text and "<title>a &lt;b&gt;: 300,000" in text
    alone = comparison_plot(parts(comparison_of(seeds=1))[1:2]).axes[0]
    assert [len(one.lines[2]) for one in rte.containers] == [1] * 5  # a spread where there is one
    assert [len(one.lines[2]) for one in alone.containers] == [0] * 5


@pytest.mark.parametrize(
    ("counts", "ends"), [([770, 22_700_000], (100, 100_000_000)), ([1000, 1000], (1000, 10_000)), ([1, 9], (1, 10))]
)
def test_decades_hold_all_counts(counts: list[float], ends: tuple[int, int]) -> None:
    assert (decades(counts)[0], decades(counts)[-1]) == ends


@needs_matplotlib
def test_names_stand_on_no_other_name_and_inside() -> None:
    comparison = comparison_of()
    row = comparison["mean"][2]
    comparison["mean"] = [
        {**row, "method": f"a method of name {n}", "mean": 0.6, "sd": None, "weights_a_task": 4 ** (n + 2)}
        for n in range(6)
    ]
    figure = comparison_plot(parts(comparison)[:1])
    (ax,) = figure.axes
    figure.draw_without_rendering()
    frame, boxes = ax.get_window_extent(), [name.get_window_extent() for name in ax.texts]
    assert len(boxes) == 6
    for name, box in zip(ax.texts, boxes, strict=True):
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        x, y = ax.transData.transform(name.xy)
        assert box.x0 > x or box.x1 < x or abs((box.y0 + box.y1) / 2 - y) > 8
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_a_page_without_a_comparison_has_no_such_section(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    found = Gathered(tmp_path, RECIPE, UNITS, results_of(UNITS))
    assert "told apart" not in page(found)
    assert "told apart" in page(dataclasses.replace(found, comparison=comparison_of()))
