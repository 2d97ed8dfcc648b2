"""The expected calibration error by its formula, and the scores of each label against scikit-learn's report."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import classification_report

from graftwork.tasks.scoring.by_label import by_label, confusion
from graftwork.tasks.scoring.calibration import calibration


def test_the_error_is_the_mean_gap_of_the_bins() -> None:
    draw = np.random.default_rng(0)
    said = draw.random(500)
    right = draw.random(500) < said**2
    bins = np.clip(np.ceil(said * 10).astype(int) - 1, 0, 9)
    gaps = [(bins == b).sum() / 500 * abs(said[bins == b].mean() - right[bins == b].mean()) for b in range(10)]
    found = calibration(said.tolist(), right.tolist())
    assert found.ece == pytest.approx(sum(gaps)) and [one.count for one in found.bins] == np.bincount(bins).tolist()


def test_a_bin_has_its_upper_bound_and_an_empty_one_says_nothing() -> None:
    found = calibration([0.0, 0.5, 1.0], [False, True, True])
    assert [one.count for one in found.bins] == [1, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert found.bins[1].said is None and found.ece == pytest.approx(0.5 / 3)
    assert calibration([], []).ece == 0.0


def test_each_label_as_in_the_report_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    gold, predicted = (draw.choice(["a", "b", "c"], 60).tolist() for _ in range(2))
    report = classification_report(gold, predicted, output_dict=True)
    found = by_label(predicted, gold, ["c", "a", "b", "never"])
    for one in found[:3]:
        assert [one.precision, one.recall, one.f1, one.count] == pytest.approx([*report[one.label].values()])
        assert one.predicted == predicted.count(one.label)
    assert found[3].count == found[3].predicted == 0 and found[3].f1 == 0.0
    counts = confusion(predicted, gold, ["a", "b", "c"])
    assert counts[0][1] == sum(g == "a" and p == "b" for g, p in zip(gold, predicted, strict=True))


def test_each_of_several_labels() -> None:
    found = by_label([["a"], ["a", "b"], []], [["a", "b"], ["b"], []], ["a", "b"])
    assert [(one.precision, one.recall, one.count, one.predicted) for one in found] == [
        (0.5, 1.0, 1, 2),
        (1.0, 0.5, 2, 1),
    ]
