"""How good the predictions for labelled rows are, of every kind of task, by stand-ins for predictors and by the command."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor
from graftwork.inference.evaluating import Evaluation, evaluate
from graftwork.report.evaluation import evaluation_tables
from graftwork.tasks import Prediction, Rows, Task, TaskError, TaskSpec
from tests.support.command import call, refused
from tests.support.tiny_run import make_tiny
from tests.support.tiny_tasks import ROWS


def of(spec: dict[str, Any], rows: list[dict[str, Any]], predictions: list[Prediction]) -> Evaluation:
    """The evaluation of predictions that are made up."""
    task = Task.from_rows("t", TaskSpec(**spec), rows, rows)
    made: Any = SimpleNamespace(
        kind=task.kind, task="t", unit=SimpleNamespace(id="u"), predict=lambda _, batch_size: predictions
    )
    return evaluate(made, Rows(rows, source="t.csv"))


def test_labels() -> None:
    rows = [{"text": f"row {n}", "label": label} for n, label in enumerate("aabb")]
    chances = [0.9, 0.4, 0.3, 0.8]
    found = of({}, rows, [Prediction("a" if c > 0.5 else "b", {"a": c, "b": 1 - c}) for c in chances])
    assert found.metrics["accuracy"] == 0.5 and found.confusion == [[1, 1], [1, 1]]
    assert [(one.label, one.recall, one.count) for one in found.labels or ()] == [("a", 0.5, 2), ("b", 0.5, 2)]
    assert found.calibration is not None and found.calibration.ece == pytest.approx((0.1 + 0.6 + 0.3 + 0.8) / 4)
    assert [(one.place, one.predicted, one.right) for one in found.wrong] == [
        ("t.csv:4", "a", "b"),
        ("t.csv:2", "b", "a"),
    ]
    assert [one.probability for one in found.wrong] == [0.8, 0.6], "the surest first"
    assert [table.title for table in evaluation_tables(found)] == [
        "t: u on 4 rows",
        "Labels",
        "Confusion",
        "Calibration",
        "Wrong: 2 rows, the surest first",
    ]


def test_sets_of_labels() -> None:
    rows = [{"text": f"row {n}", "label": label} for n, label in enumerate([["x"], ["x", "y"], []])]
    predictions = [
        Prediction(["x"], {"x": 0.9, "y": 0.2}),
        Prediction(["x"], {"x": 0.8, "y": 0.1}),
        Prediction([], {"x": 0.3, "y": 0.3}),
    ]
    found = of({"kind": "multi_label"}, rows, predictions)
    assert [(one.label, one.recall) for one in found.labels or ()] == [("x", 1.0), ("y", 0.0)]
    assert [(one.place, one.probability) for one in found.wrong] == [("t.csv:2", 0.9)]
    assert found.calibration is not None and sum(one.count for one in found.calibration.bins) == 6


def test_numbers_have_residuals() -> None:
    rows = [{"text": f"row {n}", "label": n} for n in range(4)]
    found = of({"kind": "regression"}, rows, [Prediction(value) for value in (0.0, 1.5, 2.0, 1.0)])
    assert found.residuals == pytest.approx(
        {"mean_absolute_error": 0.625, "root_mean_squared_error": 1.0307764, "mean_error": -0.375}
    )
    assert [(one.place, one.probability) for one in found.wrong][:2] == [("t.csv:4", -2.0), ("t.csv:2", 0.5)]
    assert "wrong" not in found.to_dict() and evaluation_tables(found)[-1].title == "Farthest off"


def test_tags_have_scores_of_words_and_of_entities() -> None:
    rows = [{"tokens": ["Anna", "lives"], "tags": ["B-PER", "O"]}, {"tokens": ["in", "Berlin"], "tags": ["O", "B-LOC"]}]
    predictions = [
        Prediction(["B-PER", "O"], extra={"probability": [0.9, 0.9]}),
        Prediction(["O", "O"], extra={"probability": [0.9, 0.7]}),
    ]
    found = of({"kind": "tagging"}, rows, predictions)
    assert [(one.label, one.f1, one.count) for one in found.entities or ()] == [("LOC", 0.0, 1), ("PER", 1.0, 1)]
    assert {one.label: one.recall for one in found.labels or ()}["O"] == 1.0
    assert [(one.place, one.probability) for one in found.wrong] == [("t.csv:2", 0.7)]


def test_texts_are_wrong_where_none_of_the_right_ones_is_written() -> None:
    rows = [{"prompt": "say", "target": ["a red house"]}, {"prompt": "say no", "target": ["no"]}]
    found = of({"kind": "generation", "metrics": ("exact_match",)}, rows, [Prediction("Red house."), Prediction("yes")])
    assert found.metrics == {"exact_match": 0.5} and [one.predicted for one in found.wrong] == ["yes"]
    assert found.labels is found.calibration is None


def test_a_choice() -> None:
    rows = [{"text": f"row {n}", "choices": ["u", "v"], "label": n} for n in (0, 1)]
    found = of(
        {"kind": "multiple_choice"}, rows, [Prediction(0, {"0": 0.7, "1": 0.3}), Prediction(0, {"0": 0.6, "1": 0.4})]
    )
    assert [(one.right, one.probability) for one in found.wrong] == [(1, 0.6)]
    assert found.calibration is not None and found.calibration.ece == pytest.approx((0.3 + 0.6) / 2)


@pytest.mark.parametrize("kind", ROWS)
def test_perfect_predictions_of_every_kind_are_nowhere_wrong(kind: str) -> None:
    rows = ROWS[kind]
    task = Task.from_rows("t", TaskSpec(kind=kind), rows, rows)
    if not isinstance(task.kind.gold(Rows(rows))[0], (str, int, float, list)) or task.kind.form == "tokens":
        pytest.skip("its predictions hold what is right")
    gold = task.kind.gold(Rows(rows))
    found = of(
        {"kind": kind}, rows, [Prediction(one[0] if task.kind.form in ("texts", "answers") else one) for one in gold]
    )
    assert not any(one.probability for one in found.wrong), "of numbers all rows are listed, here 0 off"


def test_rows_without_an_answer_are_refused() -> None:
    with pytest.raises(TaskError, match="a value has to stand there"):
        rows = [{"text": f"row {n}", "label": "ab"[n % 2]} for n in range(4)]
        task = Task.from_rows("t", TaskSpec(), rows, rows)
        evaluate(SimpleNamespace(kind=task.kind), Rows([{"text": "x", "label": None}]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    recipe = 'targets = ["a"]\nfuse = false\ncontrols = ["head"]\n[base]\nmodel = "base"\n'
    text = f'{recipe}[tasks.a]\ndata = "a"\n[training]\nepochs = 1\n'
    run(Recipe.read(make_tiny(folder, text)), folder / "run", root=folder)
    return folder


def test_the_command_prints_tables_and_writes_files(done: Path, tmp_path: Path) -> None:
    errors, scores, file = tmp_path / "errors.csv", tmp_path / "scores.json", done / "b" / "train.jsonl"
    told = call("evaluate", done / "run", "--task", "a", "--file", file, "--errors", errors, "--json", scores)
    assert told.exit_code == 0, told.output
    for title in ("a: head/a/0 on 48 rows", "Labels", "Confusion", "Calibration"):
        assert title in told.stdout.splitlines()
    figures = json.loads(scores.read_text())
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    found = Predictor(done / "run", "a").predict(rows)
    wrong = {f"{file}:{n + 1}": one.value for n, one in enumerate(found) if one.value != rows[n]["label"]}
    listed = [*csv.DictReader(io.StringIO(errors.read_text()))]
    assert {one["place"]: one["predicted"] for one in listed} == wrong and figures["wrong"] == len(wrong)
    sure = [float(one["probability"]) for one in listed]
    assert sure == sorted(sure, reverse=True) and figures["metrics"]["accuracy"] == 1 - len(wrong) / 48
    assert [*listed[0]] == ["place", "text", "predicted", "right", "probability"]


def test_the_command_refuses_what_cannot_be(done: Path, tmp_path: Path) -> None:
    file = done / "b" / "train.jsonl"
    assert "--errors" in refused(call("evaluate", done / "run", "--file", file, "--errors", tmp_path))
    assert "is not there" in refused(call("evaluate", done / "run", "--file", tmp_path / "none.csv"))
    assert "--device 'gpu' is not known; give cpu" in refused(
        call("evaluate", done / "run", "--file", file, "--device", "gpu")
    )
    (tmp_path / "odd.csv").write_text("text,label\ngood film,poss\n")
    assert "did you mean 'pos'" in refused(call("evaluate", done / "run", "--file", tmp_path / "odd.csv"))


def test_predictions_go_into_files(done: Path, tmp_path: Path) -> None:
    file = done / "b" / "dev.jsonl"
    printed = [
        json.loads(line) for line in call("predict", done / "run", "--task", "a", "--file", file).stdout.splitlines()
    ]
    written = tmp_path / "out.jsonl"
    told = call(
        "predict", done / "run", "--task", "a", "--file", file, "--output", written, "--batch-size", 3, "--progress"
    )
    assert told.exit_code == 0 and told.stdout == "" and "20 of 20 rows" in told.stderr
    found = [json.loads(line) for line in written.read_text().splitlines()]
    assert [one["value"] for one in found] == [one["value"] for one in printed]
    assert call("predict", done / "run", "--task", "a", "--file", file, "--output", tmp_path / "out.csv").exit_code == 0
    table = [*csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))]
    assert [one["prediction"] for one in table] == [one["value"] for one in printed]
    assert [float(one["probability"]) for one in table] == pytest.approx(
        [one["probabilities"][one["value"]] for one in printed], abs=1e-6
    )


def test_where_predictions_cannot_go(done: Path, tmp_path: Path) -> None:
    assert "give one that ends in .csv or .jsonl" in refused(
        call("predict", done / "run", "x", "--output", tmp_path / "a.txt")
    )


def test_one_device_is_seen(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert call("predict", done / "run", "--task", "a", "good film", "--device", "cpu").exit_code == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert "torch sees 2 GPUs here" in refused(call("predict", done / "run", "x", "--device", "cuda:2"))
    monkeypatch.setattr(
        "graftwork.inference.Predictor.__init__", lambda *_, **__: (_ for _ in ()).throw(TaskError("there"))
    )
    assert refused(call("predict", done / "run", "x", "--task", "a", "--device", "cuda:1")) == "there"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
