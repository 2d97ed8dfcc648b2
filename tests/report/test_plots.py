"""Plots: the numbers that are drawn, in which order, under which names; and the way out without matplotlib."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import graftwork.report
from graftwork.errors import GraftworkError
from graftwork.experiments import plan
from graftwork.report.attention import attention_of, attention_table, attentions, heat_maps, in_order
from graftwork.report.curves import by_task_figure, curves, curves_of, kinds_of_all
from graftwork.report.pictures import pictures
from graftwork.report.plots import png, svg
from graftwork.report.run_data import Gathered
from tests.report.made_up import MANY, UNITS, many_results, results_of

# By layer and adapter, the mean of two seeds (see `weights` in made_up.py).
DRAWN = [[0.3, 0.35, 0.35], [0.2, 0.4, 0.4], [0.4, 0.3, 0.3]]


def test_the_heat_map_draws_the_mean_of_the_seeds() -> None:
    attention = attention_of(results_of(UNITS), "mrpc")
    assert attention is not None and attention.seeds == 2
    figure = heat_maps([attention])
    ax, _ = figure.axes  # the other is the scale
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), DRAWN)
    assert image.get_clim() == (0.0, 1.0)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["decoder 2", "decoder 10", "encoder 0"]
    names = ax.get_xticklabels()
    assert [label.get_text() for label in names] == ["rte", "mrpc (own)", "wmt"]
    assert [label.get_fontweight() for label in names] == ["normal", "bold", "normal"]
    (frame,) = ax.patches
    assert frame.get_xy() == (0.5, -0.5)
    assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for row in DRAWN for value in row]
    table = attention_table(attention)
    assert table.columns == ["site", "rte", "mrpc (own)", "wmt"]
    assert table.rows == [
        [site, *(f"{value:.2f}" for value in row)]
        for site, row in zip(("decoder 2", "decoder 10", "encoder 0"), DRAWN, strict=True)
    ]


def test_one_seed_is_drawn_as_it_is() -> None:
    units = [unit for unit in UNITS if unit.seed == 0]
    attention = attention_of(results_of(units), "rte")
    assert attention is not None and attention.seeds == 1 and attention.own == 0
    np.testing.assert_allclose(attention.weights[:, 0], [0.2, 0.1, 0.3])


def test_a_fusion_that_is_not_done_has_no_picture() -> None:
    assert attention_of(results_of([unit for unit in UNITS if unit.kind != "fusion"]), "rte") is None
    results = results_of(UNITS)
    for unit in results["units"]:
        unit["attention"] = None
    assert attention_of(results, "rte") is None


def test_every_fusion_that_has_a_choice_is_looked_at() -> None:
    results = results_of(UNITS)
    found = attentions(results, ["rte", "mrpc"])
    kinds = [(one.kind, one.target, one.name, one.title) for one in found]
    assert kinds == [  # the fusion of the own adapter alone gives it all
        ("fusion", "rte", "attention", "rte"),
        ("fusion", "mrpc", "attention", "mrpc"),
        ("copies", "rte", "attention_copies", "rte, fusion, copies"),
        ("copies", "mrpc", "attention_copies", "mrpc, fusion, copies"),
    ]
    joint = attentions(many_results(), ["rte", "mrpc", "cola"])
    assert [(one.kind, one.own, one.seeds) for one in joint] == [("fusion_mt", n, 2) for n in range(3)]


def test_of_copies_the_own_one_is_that_of_the_fusions_seed() -> None:
    results = results_of(UNITS)
    for unit in results["units"]:
        if unit["kind"] == "copies":
            unit["attention"]["adapters"] = [id.replace("adapter/", "").replace("/", "@") for id in unit["members"]]
    first = attention_of(results, "rte", "copies")
    assert first is not None and first.adapters == ["rte@0", "rte@1"] and first.own == 0
    assert first.seeds == 1  # those of the other seed are other adapters
    results["units"] = [unit for unit in results["units"] if unit["seed"] == 1]
    second = attention_of(results, "rte", "copies")
    assert second is not None and second.adapters == ["rte@1", "rte@0"] and second.own == 0


def test_all_targets_share_one_scale_of_colours() -> None:
    results = results_of(UNITS)
    figure = heat_maps([attention_of(results, target) for target in ("rte", "mrpc", "rte", "mrpc", "rte")])
    drawn = [ax for ax in figure.axes if ax.images]
    assert len(drawn) == 5 and {ax.images[0].get_clim() for ax in drawn} == {(0.0, 1.0)}
    assert [ax.get_title().split()[0] for ax in drawn] == ["rte", "mrpc", "rte", "mrpc", "rte"]
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (
            [f"encoder.layer.{n}.{kind}" for n in (10, 2) for kind in ("feed_forward", "attention")],
            ["2 attn", "2 ffn", "10 attn", "10 ffn"],
        ),
        (["h.1.layer", "h.0.layer"], ["0", "1"]),
        (["1.mixer_1", "1.mixer"], ["1 mixer", "1 mixer 2"]),
        (["a.enc.0.layer", "b.enc.0.layer", "a.enc.1.layer"], ["a 0", "a 1", "b 0"]),
        (["deep.stack.0.layer", "stack.0.layer"], ["deep.stack 0", "stack 0"]),
        (["by hand", "h.0.layer"], ["0", "by hand"]),
    ],
)
def test_sites_in_order_with_short_labels(keys: list[str], labels: list[str]) -> None:
    found = in_order(keys)
    assert list(found.values()) == labels and set(found) == set(keys)


def test_curves_have_a_line_for_each_training() -> None:
    units = [unit for unit in results_of(UNITS)["units"] if unit["task"] == "rte" and unit["kind"] != "copies"]
    units = [unit for unit in units if unit["kind"] != "head" or unit["seed"] == 0]
    losses, scores = curves(units, "rte").axes
    assert len(losses.lines) == len(units)
    by_kind = {}
    for line in losses.lines:
        assert line.get_xydata().tolist() == [[10, 0.7], [20, 0.5]]
        by_kind.setdefault(line.get_label(), []).append(line)
    assert len(by_kind["fusion, all"]) == 2 and len(by_kind["head only"]) == 1
    assert by_kind["fusion, all"][0].get_linewidth() < by_kind["head only"][0].get_linewidth()
    assert (
        by_kind["fusion, all"][0].get_color()
        == by_kind["fusion, all"][1].get_color()
        != by_kind["head only"][0].get_color()
    )
    fusion = [line.get_xydata().tolist() for line in scores.lines if line.get_label() == "fusion, all"]
    assert np.allclose(fusion, [[[1, 35], [2, 70]], [[1, 36], [2, 72]]])
    assert scores.get_ylabel() == "accuracy, % on dev"
    assert [text.get_text() for text in losses.figure.legends[0].texts] == [
        "head only",
        "full fine-tuning",
        "single adapter",
        "uniform mean",
        "fusion, own adapter",
        "fusion, all",
    ]


def of_kind(kind: str, metrics: dict[str, str] | None = None) -> list[dict]:
    given = {"rte": "accuracy", "mrpc": "f1", "cola": "accuracy"} | (metrics or {})
    return kinds_of_all(many_results(metrics=given)["units"])[kind]


def caption_of(kind: str, units: list[dict] | None = None) -> str:
    results = many_results() if units is None else {"units": units, "targets": []}
    found = pictures(Gathered(Path(), MANY, plan(MANY), results))["of_all_tasks"]
    return next(one.caption for one in found if one.name == f"tasks-{kind}")


def test_a_training_on_all_tasks_has_a_curve_for_each_and_their_mean() -> None:
    first, second = of_kind("mt_shared")
    drawn = {curve.name: (curve.points, curve.best) for curve in curves_of(first)}
    assert {task: best for task, (_, best) in drawn.items()} == {"rte": 1, "mrpc": 1, "cola": 1, "mean": 1}
    assert np.allclose(drawn["rte"][0], [(1, 37.0), (2, 74.0)])
    assert np.allclose(drawn["mean"][0], [(1, 38.0), (2, 76.0)])  # of 74, 79 and 75
    figure = by_task_figure([first, second], "shared")
    losses, scores = figure.axes
    assert len(losses.lines) == 2 and [text.get_text() for text in figure.legends[0].texts] == [
        *first["tasks"],
        "mean",
    ]
    assert scores.get_ylabel() == "accuracy, % and f1, % on dev" and scores.get_xlabel() == "epoch"
    text = svg(figure)
    for name in ("rte, seed 0", "mrpc, seed 1", "mean, seed 0", first["unit"], second["unit"]):
        assert text.count(f"<title>{name}</title>") == 1
    assert text.count("<title>") == 2 + 2 * 4 and caption_of("mt_shared").endswith("the epoch that was kept is dotted.")


def test_a_mean_of_percents_and_others_is_not_drawn() -> None:
    drawn = {curve.name: curve.points for curve in curves_of(of_kind("mt_shared", {"mrpc": "pearson"})[0])}
    assert set(drawn) == {"rte", "mrpc", "cola"} and np.allclose(drawn["mrpc"], [(1, 0.395), (2, 0.79)])


def test_a_sequence_has_a_curve_for_each_task_from_where_it_is_learnt() -> None:
    units = of_kind("sequential")
    drawn = {curve.name: curve.points for curve in curves_of(units[0])}
    assert list(drawn) == ["rte", "mrpc", "cola"]
    assert np.allclose(drawn["rte"], [(1, 70), (2, 72), (3, 60)]) and np.allclose(drawn["cola"], [(3, 79)])
    _, scores = by_task_figure(units, "in sequence").axes
    assert scores.get_xlabel() == "tasks learnt" and len(scores.lines) == 2 * 3
    said = caption_of("sequential")
    assert "score of each task by tasks learnt" in said and "dotted" not in said


def test_adapters_in_sequence_have_no_loss_of_their_own() -> None:
    units = of_kind("sequential_adapters")
    for unit in units:
        unit["curves"]["loss"] = []  # each was trained by its own unit
    (scores,) = by_task_figure(units, "adapters").axes
    assert scores.get_xlabel() == "tasks learnt" and len(scores.lines) == 2 * 3
    assert caption_of("sequential_adapters", units) == "The score of each task by tasks learnt."


def test_a_training_too_short_for_a_loss_is_drawn_too() -> None:
    (unit,) = (unit for unit in results_of(UNITS)["units"] if unit["unit"] == "head/rte/0")
    unit["curves"] = {"loss": [], "score": [[1, 0.5]]}
    unit["best_epoch"] = 1
    (scores,) = curves([unit], "rte").axes
    assert scores.lines[0].get_xydata().tolist() == [[1, 50]]


def test_the_modules_import_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    files = sorted(Path(graftwork.report.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        spec = importlib.util.spec_from_file_location(f"once_more_{file.stem}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GraftworkError, match=r"pip install graftwork\[reports\]"):
        heat_maps([attention_of(results_of(UNITS), "rte")])
