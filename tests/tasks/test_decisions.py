"""Temperatures and thresholds: their formulas, that a temperature changes no prediction, and that dev rows decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from graftwork.errors import TaskError
from graftwork.tasks import Prediction, Rows, Task, TaskSpec
from graftwork.tasks.batches import softmax
from graftwork.tasks.decisions import Decision, each_tempered, fit_temperature, fit_threshold, tempered

DRAW = np.random.default_rng(0)
LOGITS = DRAW.normal(size=(300, 3)) * 6
RIGHT = np.where(DRAW.random(300) < 0.7, LOGITS.argmax(-1), DRAW.integers(0, 3, 300))


def test_probabilities_at_a_temperature_are_those_of_logits_divided_by_it() -> None:
    assert tempered(softmax(LOGITS), 2.5) == pytest.approx(softmax(LOGITS / 2.5))
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    assert each_tempered(sigmoid, 2.5) == pytest.approx(1 / (1 + np.exp(-LOGITS / 2.5)))


def test_the_temperature_has_the_least_loss() -> None:
    """As torch's cross entropy says; the values beside it have more."""
    found = fit_temperature(softmax(LOGITS), RIGHT)

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(torch.from_numpy(LOGITS / temperature), torch.from_numpy(RIGHT)))

    assert found > 1.5, "they were too sure"
    assert loss(found) <= min(loss(found * factor) for factor in (0.9, 0.99, 1.01, 1.1)) < loss(1.0)


def test_of_several_labels_too() -> None:
    logits = DRAW.normal(size=(200, 3)) * 5
    right = (DRAW.random((200, 3)) < 1 / (1 + np.exp(-logits / 3))).astype(float)
    found = fit_temperature(1 / (1 + np.exp(-logits)), right, several=True)
    assert found == pytest.approx(3, rel=0.3)


def test_rows_that_are_all_right_fit_no_temperature() -> None:
    assert fit_temperature(softmax(LOGITS), LOGITS.argmax(-1)) == 1.0


def test_a_temperature_changes_no_prediction() -> None:
    named = [dict(zip("abc", row, strict=True)) for row in softmax(LOGITS).tolist()]
    for one in named:
        for temperature in (0.05, 0.7, 20.0):
            before = Prediction(max(one, key=lambda name: one[name]), one)
            assert Decision(temperature).of_one(before).value == before.value
            several = Prediction([name for name, chance in one.items() if chance > 0.5], one)
            assert Decision(temperature).of_several(several).value == several.value


def test_the_threshold_has_the_best_f1_of_all() -> None:
    chances, right = DRAW.random(80), DRAW.random(80)
    is_so = right < chances**2

    def f1(threshold: float) -> float:
        said = chances > threshold
        return 2 * (said & is_so).sum() / (said.sum() + is_so.sum())

    assert f1(fit_threshold(chances, is_so)) == max(f1(threshold) for threshold in (0.0, *(chances - 1e-9)))
    assert fit_threshold(chances, np.zeros(80)) == 0.5


def two(count: int = 30) -> list[dict[str, Any]]:
    return [{"text": f"row {n}", "label": "yes" if n % 3 == 0 else "no"} for n in range(count)]


def task(**spec: Any) -> Task:
    return Task.from_rows("t", TaskSpec(**spec), two(), two())


def logit(n: int) -> np.ndarray:
    """Of the label yes: higher for the rows that are so, and never above that of no."""
    return np.array([0.0, -1.0 if n % 3 == 0 else -3.0 + 0.01 * n])


def test_a_threshold_of_dev_is_fitted_there_and_decides() -> None:
    kind = task(threshold="dev", positive="yes", metrics=("f1",)).kind
    raw = [kind.predict(logit(n)) for n in range(30)]
    assert {one.value for one in raw} == {"no"}, "before it is fitted the likeliest is predicted"
    decision = kind.fit_decision(raw, Rows(two()))
    assert decision is not None and decision.temperature == 1.0 and 0.06 < decision.threshold < 0.27
    found = kind.with_decision(decision)
    assert [found.predict(logit(n)).value for n in range(30)] == [row["label"] for row in two()]
    assert kind.predict(logit(0)).value == "no", "the kind itself stays as it is"


def test_a_threshold_that_is_given_decides_at_once() -> None:
    kind = task(threshold=0.2, positive="yes").kind
    assert [kind.predict(logit(n)).value for n in (0, 1)] == ["yes", "no"]
    assert kind.fit_decision([], Rows([])) is None, "nothing is to be fitted"
    assert kind.positive == "yes"


def test_several_labels_share_one_threshold() -> None:
    rows = [{"text": str(n), "label": ["a"] if n % 2 else ["a", "b"]} for n in range(8)]
    kind = Task.from_rows("t", TaskSpec(kind="multi_label", threshold="dev", calibrate=True), rows, rows).kind
    raw = [kind.predict(np.array([-0.5, -0.6 if n % 2 == 0 else -2.0])) for n in range(8)]
    decision = kind.fit_decision(raw, Rows(rows))
    found = kind.with_decision(decision)
    assert [found.decided(one).value for one in raw] == [row["label"] for row in rows]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"threshold": 0.3}, "nobody has said of which; give positive"),
        ({"kind": "regression", "threshold": 0.3}, "threshold means nothing for regression"),
        ({"kind": "regression", "calibrate": True}, "calibrate means nothing for regression"),
    ],
)
def test_what_does_not_fit_is_refused(spec: dict[str, Any], message: str) -> None:
    rows = [{"text": f"row {n}", "label": n % 2 if spec.get("kind") else "ab"[n % 2]} for n in range(8)]
    with pytest.raises(TaskError, match=message):
        Task.from_rows("t", TaskSpec(**spec), rows, rows)


def test_a_threshold_is_of_two_labels() -> None:
    rows = [{"text": f"row {n}", "label": "abc"[n % 3]} for n in range(9)]
    with pytest.raises(TaskError, match="here are 3; leave it out"):
        Task.from_rows("t", TaskSpec(threshold="dev"), rows, rows)
