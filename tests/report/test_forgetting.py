"""What is seen of many tasks: matrices of what is forgotten, together against alone; figures reckoned by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from graftwork.experiments import plan
from graftwork.report import Table, tables
from graftwork.report.formatting import change, is_of_hundred, is_share, named_score, score
from graftwork.report.pictures import pictures
from graftwork.report.plots import png, svg
from graftwork.report.run_data import Gathered
from graftwork.report.sequences import caption, forgetting_figure, full_colour, matrices
from graftwork.training.scores import mean_metric
from tests.report.made_up import MANY, RECIPE, UNITS, many_results, results_of

ONE_SEED = [unit for unit in plan(MANY) if unit.seed == 0]


def found(results: dict, begin: str) -> list[Table]:
    return [table for table in tables(results, plan(MANY)) if table.title.startswith(begin)]


def test_a_matrix_for_each_kind_of_sequence() -> None:
    full, adapters = found(many_results(ONE_SEED, dict.fromkeys(MANY.tasks, "accuracy"), "test"), "What is forgotten")
    assert full.title == "What is forgotten: full fine-tuning, in sequence (accuracy, % on test)"
    assert full.columns == ["step", "learnt", "rte", "mrpc", "cola"]
    assert full.rows == [
        ["1", "rte", "70.0", "", ""],
        ["2", "mrpc", "72.0*", "78.0*", ""],
        ["3", "cola", "60.0", "70.0", "79.0"],
    ]
    # (72 - 60 + 78 - 70) / 2, (60 - 70 + 70 - 78) / 2, (78 - 80 + 79 - 75) / 2
    assert [note.split(":")[0] for note in full.notes[:3]] == [
        "Average forgetting 10.0 points",
        "Backward transfer -9.0 points",
        "Forward transfer +1.0 points",
    ]
    assert full.notes[3].startswith("* the best")
    assert adapters.title.startswith("What is forgotten: adapters, in sequence")
    assert [row[2:] for row in adapters.rows] == [
        ["70.0*", "", ""],
        ["70.0", "80.0*", ""],
        ["70.0", "80.0", "75.0"],
    ]
    assert [note.split(":")[0] for note in adapters.notes[:3]] == [
        "Average forgetting 0.0 points",
        "Backward transfer +0.0 points",
        "Forward transfer +0.0 points",
    ]


def test_seeds_are_averaged_and_metrics_that_differ_stand_over_their_columns() -> None:
    results = many_results()
    second = next(row for row in results["sequences"] if (row["kind"], row["seed"]) == ("sequential", 1))
    second["average_forgetting"] = 0.14
    full = found(results, "What is forgotten")[0]
    assert full.title == "What is forgotten: full fine-tuning, in sequence (on dev, mean of 2 seeds)"
    assert full.columns[2:] == ["rte: accuracy, %", "mrpc: f1, %", "cola: accuracy, %"]
    assert full.rows[2][2:] == ["61.0", "71.0", "80.0"]
    assert full.notes[0].startswith("Average forgetting 12.0 ± 2.8 points:")  # of 10 and 14


def test_a_mean_of_shares_and_others_is_in_no_points() -> None:
    mixed = {"rte": "accuracy", "mrpc": "pearson", "cola": "accuracy"}
    full = found(many_results(ONE_SEED, mixed), "What is forgotten")[0]
    assert full.rows[2][2:] == ["60.0", "0.700", "79.0"]
    assert full.notes[0].startswith("Average forgetting 0.100:")


def test_without_the_single_trainings_there_is_no_forward_transfer() -> None:
    done = [unit for unit in ONE_SEED if unit.kind == "sequential"]
    full = found(many_results(done), "What is forgotten")[0]
    assert [note.split()[0] for note in full.notes] == ["Average", "Backward", "*"]


def test_together_against_alone() -> None:
    (table,) = found(many_results(), "Together")
    assert table.columns == ["task", "metric", "trained", "together", "alone", "difference"]
    rows = {(row[0], row[2]): row[3:] for row in table.rows}
    assert rows["rte", "full fine-tuning, all tasks"] == ["75.0", "71.0", "+4.0"]  # both seeds two points apart
    assert rows["mrpc", "shared adapter, all tasks"] == ["80.0", "81.0", "-1.0"]
    assert rows["cola", "shared adapter, all tasks"] == ["76.0", "76.0", "+0.0"]
    assert len(rows) == 3 * 3  # the joint training that a fusion stands on is one of them
    said = [note.split(";")[0] for note in table.notes]
    assert "shared adapter, all tasks, against single adapter: +1.0 points in the mean of 3 tasks" in said


def test_what_was_not_trained_alone_is_held_against_nothing() -> None:
    done = [unit for unit in plan(MANY) if unit.kind == "mt_shared" or (unit.kind, unit.task) == ("adapter", "rte")]
    (table,) = found(many_results(done), "Together")
    assert [row[4:] for row in table.rows] == [["71.0", "+4.0"], ["", ""], ["", ""]]
    assert [note for note in table.notes if "mean of 1 task;" in note]
    (bare,) = found(many_results([u for u in done if u.kind == "mt_shared"]), "Together")
    assert bare.notes == []


def test_a_run_of_nothing_of_the_kind_has_no_such_table() -> None:
    titles = [table.title for table in tables(results_of(UNITS), UNITS)]
    assert len(titles) == len(RECIPE.targets) + 1 and not [t for t in titles if t.startswith(("What", "Together"))]


@pytest.mark.parametrize(
    ("metrics", "share", "of_hundred"),
    [
        (["accuracy", "f1", "accuracy"], True, False),
        (["accuracy", "pearson"], False, False),
        (["pearson", "accuracy"], False, False),
        (["bleu", "chrf"], False, True),
        (["bleu", "accuracy"], False, False),
    ],
)
def test_a_mean_is_a_share_where_all_its_metrics_are(metrics: list[str], share: bool, of_hundred: bool) -> None:
    mean = mean_metric(metrics)
    assert (is_share(mean), is_of_hundred(mean)) == (share, of_hundred)


def test_scores_of_several_tasks_in_words() -> None:
    assert named_score(0.8425, mean_metric(["accuracy", "f1"])) == "mean of accuracy and f1 84.2 %"
    assert named_score(0.8425, mean_metric(["accuracy", "accuracy"])) == "mean of accuracy 84.2 %"
    assert score(0.8425, mean_metric(["accuracy", "pearson"])) == "0.843"
    assert score(0.5, "mean") == "0.500"  # of what is not known
    assert [change(x, "f1") for x in (0.021, -0.021, -0.0001)] == ["+2.1", "-2.1", "+0.0"]
    assert change(-2.5, "bleu") == "-2.5" and change(0.05, "pearson") == "+0.050"


def test_the_picture_has_the_scores_as_text_and_the_change_as_colour() -> None:
    full, adapters = matrices(many_results(ONE_SEED))
    figure = forgetting_figure([full, adapters])
    first, second = (ax for ax in figure.axes if ax.images)
    drawn = first.images[0].get_array()
    np.testing.assert_allclose(drawn.filled(99), [[0, 99, 99], [2, 0, 99], [-10, -8, 0]], atol=1e-9)
    np.testing.assert_allclose(second.images[0].get_array().filled(99), [[0, 99, 99], [0, 0, 99], [0, 0, 0]], atol=1e-9)
    assert {ax.images[0].get_clim() for ax in (first, second)} == {(-10, 10)}
    assert [text.get_text() for text in first.texts] == ["70.0", "72.0", "78.0", "60.0", "70.0", "79.0"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["1. rte", "2. mrpc", "3. cola"]
    assert first.get_title() == "full fine-tuning, in sequence"
    assert png(figure).startswith(b"\x89PNG")


def test_the_scale_of_colours_is_never_of_chance_alone_and_takes_every_metric() -> None:
    full, adapters = matrices(many_results(ONE_SEED))
    assert full_colour([adapters]) == 5 and full_colour([full, adapters]) == 10
    mixed = dataclasses.replace(full, metrics=["accuracy", "pearson", "bleu"])
    np.testing.assert_allclose(mixed.changes[2], [-10, -8, 0], atol=1e-9)
    assert dataclasses.replace(full, metrics=["bleu"] * 3).changes[2, 0] == pytest.approx(-0.1)


def test_the_picture_is_white_where_nothing_changed() -> None:
    results = many_results(ONE_SEED)
    figure = forgetting_figure(matrices(results))
    first, second = (ax for ax in figure.axes if ax.images)
    image = first.images[0]
    colours = {text.get_text(): image.to_rgba(image.get_array())[2, n][:3] for n, text in enumerate(first.texts[3:])}
    assert list(colours) == ["60.0", "70.0", "79.0"]
    red, green, blue = colours["60.0"]
    assert red > 2 * green and red > 2 * blue  # in full, and read on it
    assert first.texts[3].get_color() == "white" and first.texts[5].get_color() != "white"
    won = image.to_rgba(image.get_array())[1, 0]
    assert won[2] > won[0]
    for row, column in ((0, 0), (1, 1), (2, 2)):
        assert min(image.to_rgba(image.get_array())[row, column]) > 0.96
    kept = second.images[0].to_rgba(second.images[0].get_array())
    lower = np.tril_indices(3)
    assert (kept[lower] == kept[0, 0]).all() and kept[0, 0].min() > 0.96
    upper = np.triu_indices(3, 1)
    assert (image.to_rgba(image.get_array())[upper][:, :3] < 0.9).all()  # not learnt yet
    text = svg(figure)
    assert [text.count(f">{score}</text>") for score in ("72.0", "78.0", "79.0", "80.0", "75.0")] == [1, 1, 1, 2, 1]
    (shown,) = (one for one in pictures(Gathered(Path(), MANY, plan(MANY), results))["forgetting"] if one.title)
    assert shown.caption == caption(10) and "Average forgetting 10.0 points" in shown.notes[0]
