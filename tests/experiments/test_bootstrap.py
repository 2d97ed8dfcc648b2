"""The paired bootstrap: against one written by hand, against scipy's, and of a metric that is no mean over rows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from graftwork.experiments.comparing.bootstrap import FEWER, Difference, Resampling, mean_difference
from graftwork.tasks import Task, TaskSpec, metrics

LABELS = ("no", "yes")
DRAW = np.random.default_rng(7)
GOLD = [LABELS[n] for n in DRAW.integers(0, 2, 120)]


def task(metric: str) -> Task:
    rows = [{"text": f"row {n}", "label": label} for n, label in enumerate(GOLD)]
    return Task.from_rows("t", TaskSpec(metrics=metric, labels=LABELS), train=rows, dev=rows)


def answers(wrong: float) -> list[str]:
    """The right answers, but for a share."""
    return [g if r > wrong else LABELS[g == "no"] for g, r in zip(GOLD, DRAW.random(len(GOLD)), strict=True)]


GOOD, BAD, ALIKE = answers(0.1), answers(0.35), answers(0.12)


def between(metric: str, one: list[str], other: list[str], **options: int) -> Difference:
    made = task(metric)
    resample = Resampling(made, made.dev, **options)
    drawn = [resample(values) for values in (one, other)]
    one, other = [{0: d} for d in drawn if d is not None]
    found = mean_difference([(one, other)])
    assert found is not None
    return found


def test_an_interval_is_that_of_scipy() -> None:
    right = [np.array([float(p == g) for p, g in zip(v, GOLD, strict=True)]) for v in (GOOD, BAD)]
    found = between("accuracy", GOOD, BAD)
    theirs = scipy.stats.bootstrap(
        (right[0] - right[1],), np.mean, n_resamples=10_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(right[0].mean() - right[1].mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert found.clear and found.p < 0.01 and found.draws == 10_000


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "micro_f1", "matthews"])
def test_a_metric_of_labels_that_is_no_mean_is_that_of_scikit_learn_on_the_same_rows_of_both(metric: str) -> None:
    from sklearn.metrics import f1_score, matthews_corrcoef

    theirs = {
        "f1": lambda g, p: f1_score(g, p, pos_label="yes"),
        "macro_f1": lambda g, p: f1_score(g, p, average="macro"),
        "micro_f1": lambda g, p: f1_score(g, p, average="micro"),
        "matthews": matthews_corrcoef,
    }[metric]
    found = between(metric, GOOD, BAD, draws=50, seed=3)
    random, expected = np.random.default_rng(3), []
    for _ in range(50):
        rows = random.integers(0, len(GOLD), len(GOLD))
        gold = np.array(GOLD)[rows]
        one, other = (theirs(gold, np.array(v)[rows]) for v in (GOOD, BAD))
        expected.append(one - other)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))
    assert found.draws == 50 and Resampling(task(metric), task(metric).dev).draws == 10_000


def test_any_other_metric_is_computed_anew_on_every_draw() -> None:
    values = DRAW.normal(size=60)
    rows = [{"text": f"row {n}", "label": float(v)} for n, v in enumerate(values)]
    made = Task.from_rows("t", TaskSpec(kind="regression", metrics="spearman"), train=rows, dev=rows)
    assert Resampling(made, made.dev).draws == FEWER
    said = (values + DRAW.normal(size=60)).tolist()
    drawn = Resampling(made, made.dev, draws=30, seed=5)(said)
    chosen = np.random.default_rng(5).integers(0, 60, (30, 60))
    expected = [scipy.stats.spearmanr(np.array(said)[c], values[c])[0] for c in chosen]
    assert drawn is not None and drawn.draws.tolist() == pytest.approx(expected)


def test_counts_of_labels_that_are_not_there_are_those_of_scikit_learn() -> None:
    """Three labels, few rows: a draw may lack one, or have nothing but one."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    labels, random = ("a", "b", "c"), np.random.default_rng(0)
    gold, said = (random.integers(0, 3, (200, 4)) for _ in range(2))
    counts = np.zeros((200, 3, 3), int)
    for draw in range(200):
        np.add.at(counts[draw], (said[draw], gold[draw]), 1)
    macro = [f1_score(g, s, average="macro", zero_division=0.0) for g, s in zip(gold, said, strict=True)]
    correlation = [matthews_corrcoef(g, s) for g, s in zip(gold, said, strict=True)]
    assert metrics["f1"].of_counts(counts, labels).tolist() == pytest.approx(macro)  # type: ignore[misc]
    assert metrics["matthews"].of_counts(counts, labels).tolist() == pytest.approx(correlation)  # type: ignore[misc]


def test_a_mean_by_rows_is_what_the_metric_gives_on_each_draw() -> None:
    """Drawn all at once, it must be the same as draw by draw."""
    made = task("accuracy")
    resample = Resampling(made, made.dev, draws=40, seed=2)
    drawn = resample(GOOD)
    rows = np.random.default_rng(2).integers(0, len(GOLD), (40, len(GOLD)))
    expected = [np.mean([GOOD[n] == GOLD[n] for n in chosen]) for chosen in rows]
    assert drawn is not None and drawn.draws.tolist() == pytest.approx(expected)


def test_alike_ones_cannot_be_told_apart() -> None:
    found = between("accuracy", GOOD, ALIKE)
    assert not found.clear and found.low < 0 < found.high and found.p > 0.05
    same = between("accuracy", GOOD, GOOD)
    assert (same.value, same.low, same.high, same.p, same.clear) == (0.0, 0.0, 0.0, 1.0, False)


def test_the_order_turns_the_sign_and_nothing_else() -> None:
    one, other = between("accuracy", GOOD, BAD), between("accuracy", BAD, GOOD)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
    assert one.p == other.p


def test_seeds_are_averaged_over_those_that_both_have() -> None:
    made = task("accuracy")
    resample = Resampling(made, made.dev, draws=2000)
    good, bad, alike = (resample(v) for v in (GOOD, BAD, ALIKE))
    assert good is not None and bad is not None and alike is not None
    found = mean_difference([({0: good, 1: alike, 5: bad}, {1: bad, 0: bad})])
    assert found is not None
    assert found.value == pytest.approx((good.score + alike.score) / 2 - bad.score)
    expected = np.quantile((good.draws + alike.draws) / 2 - bad.draws, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert mean_difference([({0: good}, {1: bad})]) is None


def test_a_mean_over_tasks_is_surer_than_one_of_them() -> None:
    made = task("accuracy")
    pairs = []
    for seed in range(4):  # the same scores on four tasks, whose rows are drawn each for itself
        resample = Resampling(made, made.dev, seed=seed)
        one, other = resample(GOOD), resample(BAD)
        assert one is not None and other is not None
        pairs.append(({0: one}, {0: other}))
    alone, together = mean_difference(pairs[:1]), mean_difference(pairs)
    assert alone is not None and together is not None
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)
    assert mean_difference([*pairs, ({0: one}, {1: other})]) is None


def test_what_is_not_of_those_rows_is_not_scored() -> None:
    made = task("accuracy")
    assert Resampling(made, made.dev)(GOOD[:-1]) is None
