"""One label of several: which one F1 is of, and how much each counts in the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import graftwork as gw
from graftwork.errors import ConfigError, TaskError
from graftwork.experiments.comparing.bootstrap import Resampling
from graftwork.heads import Backbone, Classification
from graftwork.tasks import Prediction, Task, TaskSpec
from graftwork.training.scores import scored_task
from tests.support.tiny_tasks import WIDTH, bert, tokenizer

ROWS = [{"text": f"the cat {n}", "label": "ok" if n % 4 else "fail"} for n in range(12)]


def task(rows: list[dict[str, Any]] = ROWS, **spec: Any) -> Task:
    return Task.from_rows("t", TaskSpec(**spec), rows, rows)


def numbered(*labels: object) -> list[dict[str, Any]]:
    return [{"text": f"row {n}", "label": label} for n, label in enumerate(labels)]


def test_f1_of_names_is_of_the_one_that_is_said() -> None:
    with pytest.raises(
        TaskError,
        match=r"task 't': f1 is that of one of two labels, and nobody has said of which; .*positive = .fail. or positive = .ok.",
    ):
        task(metrics=("f1",))
    always = [Prediction("ok")] * 12
    for positive, score in (("fail", 0.0), ("ok", 18 / 21)):
        made = task(metrics=("f1", "accuracy"), positive=positive)
        assert made.kind.positive == positive
        assert made.score(always, made.dev)["f1"] == pytest.approx(score)
        drawn = Resampling(made, made.dev, draws=50)(["ok"] * 12)
        assert drawn is not None and drawn.score == pytest.approx(score)
        assert drawn.draws.mean() == pytest.approx(score, abs=0.1)
        assert (
            scored_task(made, lambda rows, score=score: ({"f1": score, "accuracy": 0.75}, always))[0]["positive"]
            == positive
        )


@pytest.mark.parametrize(
    ("rows", "spec", "positive"),
    [
        (numbered(0, 1), {}, "1"),
        (numbered(True, False), {}, "true"),
        (ROWS, {"labels": ("ok", "fail")}, "fail"),
        (ROWS, {"labels": ("ok", "fail"), "positive": "ok"}, "ok"),
    ],
)
def test_it_goes_without_saying_where_there_is_an_order(
    rows: list[dict[str, Any]], spec: dict[str, Any], positive: str
) -> None:
    made = task(rows, metrics="f1", **spec)
    assert made.kind.positive == positive == made.kind.scored_labels[-1]


@pytest.mark.parametrize(
    ("rows", "spec", "message"),
    [
        (
            ROWS,
            {"metrics": "f1", "positive": "bad"},
            'positive is .bad., which is no label; give positive = "fail" or positive = "ok"',
        ),
        (ROWS, {"positive": "ok"}, "here are 2 labels and no f1 in metrics; leave it out"),
        (numbered("a", "b", "c"), {"metrics": "f1", "positive": "a"}, "here are 3 labels and f1; leave it out"),
        (ROWS, {"class_weights": {"okay": 2}}, "class_weights names 'okay', .* did you mean 'ok'"),
        (ROWS, {"class_weights": [1, 2]}, "class_weights has 2 weights for the labels fail, ok; give a table"),
        (
            ROWS,
            {"class_weights": [1, 2, 3], "labels": ("ok", "fail")},
            "class_weights has 3 weights for the labels ok, fail",
        ),
        (
            numbered(1.5, 2.5),
            {"kind": "regression", "class_weights": "balanced"},
            "class_weights means nothing for regression",
        ),
    ],
)
def test_what_does_not_fit(rows: list[dict[str, Any]], spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task(rows, **spec)


@pytest.mark.parametrize("weights", ["equal", {"ok": 0}, {"ok": "much"}, [1, -1], [float("inf"), 1], 3])
def test_weights_of_another_form(weights: Any) -> None:
    with pytest.raises(ValueError, match='give "balanced", a table'):
        TaskSpec(class_weights=weights)


@pytest.mark.parametrize(
    ("given", "weights"),
    [("balanced", (12 / 2 / 3, 12 / 2 / 9)), ({"fail": 5}, (5.0, 1.0)), ({"ok": 0.5, "fail": 3}, (3.0, 0.5))],
)
def test_the_loss_is_torchs_weighted_cross_entropy(given: Any, weights: tuple[float, ...]) -> None:
    made = task(class_weights=given)
    assert made.class_weights == pytest.approx(weights)
    logits, labels = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 1, 1])
    loss = made.head().build(Backbone(width=WIDTH)).loss(logits, labels)
    assert float(loss) == pytest.approx(
        float(F.cross_entropy(logits, labels, torch.tensor(weights, dtype=torch.float64))), abs=1e-9
    )


def test_balanced_is_scikit_learns() -> None:
    weights = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    labels = [row["label"] for row in ROWS]
    expected = weights("balanced", classes=pytest.importorskip("numpy").array(["fail", "ok"]), y=labels)
    assert task(class_weights="balanced").class_weights == pytest.approx(tuple(expected))
    assert task(labels=("ok", "fail", "other"), class_weights="balanced").class_weights == pytest.approx(
        (2 / 3, 2.0, 1.0)
    )
    assert task(labels=("ok", "fail"), class_weights=[2, 3]).class_weights == (2.0, 3.0)


def test_weights_are_of_the_rows_that_are_learnt_from() -> None:
    made = Task.from_rows("t", TaskSpec(class_weights="balanced", dev_share=0.3, rows=6), ROWS)
    counts = [sum(row["label"] == label for row in made.train) for label in made.labels]
    assert made.class_weights == pytest.approx([6 / 2 / count for count in counts])


def test_weights_on_a_model_and_in_its_files(tmp_path: Any) -> None:
    made = task(class_weights={"fail": 7})
    adapters = gw.attach(gw.ModelWithHeads(bert()))
    adapters.add("t", gw.Pfeiffer(reduction_factor=4))
    adapters.add_head("t", made.head())
    adapters.train_only("t")
    model: Any = adapters.model
    batch = made.collate(made.features(made.train, tokenizer(), train=True), tokenizer(), for_model=model.base)
    output = model.eval()(**batch)
    expected = F.cross_entropy(output.logits, batch["labels"], torch.tensor([7.0, 1.0]))
    assert float(output.loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)
    adapters.save("t", tmp_path / "t")
    other = gw.attach(gw.ModelWithHeads(model.base.__class__(model.base.config)))
    other.load(tmp_path / "t", "t", other_base=True)
    assert Classification(labels=("a", "b"), class_weights=[7, 1]).to_dict()["class_weights"] == [7.0, 1.0]  # type: ignore[arg-type]
    loaded: Any = other.model
    other.activate("t")
    output = loaded.eval()(**batch)
    expected = F.cross_entropy(output.logits, batch["labels"], torch.tensor([7.0, 1.0]))
    assert float(output.loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-9)


@pytest.mark.parametrize("weights", [(1,), (1, 0), (1, True), "ab", (1, float("nan"))])
def test_a_head_refuses_other_weights(weights: Any) -> None:
    with pytest.raises(ConfigError, match=r"class_weights is .* a number above 0 for each of 2 labels"):
        Classification(labels=2, class_weights=weights)
    with pytest.raises(ConfigError, match="of which one holds"):
        Classification(labels=2, class_weights=(1, 1), multi_label=True)
