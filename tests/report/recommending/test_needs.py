"""Needs, and how they are read of what is typed."""

from __future__ import annotations

from typing import Any

import pytest

from graftwork.cli.recommending import rows_of, weights_of
from graftwork.errors import ConfigError
from graftwork.report.recommending import Needs


def test_what_follows_from_needs() -> None:
    needs = Needs(target="rte", tasks={"rte": 2490, "cola": 8551}, sources={"mnli": 392_702, "cb": 250, "cola": 8551})
    assert (needs.rows, needs.larger, needs.pool, needs.many) == (2490, ("mnli", "cola"), 4, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "x"}, "the target 'x' is no task; the tasks are rte"),
        ({"tasks": {}}, "there are no tasks"),
        ({"tasks": {"rte": 0}}, "'rte' has 0 training rows; give a whole number of 1 or more"),
        ({"sources": {"a": 1.5}}, "'a' has 1.5 training rows"),
        ({"sources": {"rte": 2490}}, "'rte' is the target, and cannot be a source for itself"),
        ({"weights_a_task": 0}, "limited to 0; give a number of 1 or more"),
        ({"latency": 0.9}, "limited to 0.9; give a ratio to the bare model's, of 1 or more"),
        ({"latency": float("nan")}, "limited to nan"),
    ],
)
def test_needs_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        Needs(**{"target": "rte", "tasks": {"rte": 2490}, **change})


def test_rows_are_read_and_known_ones_named() -> None:
    assert rows_of(["rte=2490", " mnli = 392,702", "a=b=1_000"], "--rows") == {"rte": 2490, "mnli": 392702, "a=b": 1000}
    assert rows_of(["rte", "snli=5"], "--source", {"rte": 2490}) == {"rte": 2490, "snli": 5}


@pytest.mark.parametrize("given", ["rte", "rte=", "=3", "rte=many", "rte=-3", "rte=2.5", "", "rte=²"])
def test_rows_that_cannot_be_read(given: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--rows .* cannot be read; give a name and its training rows, such as rte=2490"
    ):
        rows_of([given], "--rows")


def test_a_task_is_given_once() -> None:
    with pytest.raises(ConfigError, match="--rows a=2: 'a' is given twice"):
        rows_of(["a=1", "a=2"], "--rows")


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ("1M", 1_000_000),
        ("800k", 800_000),
        ("1.5m", 1_500_000),
        ("12", 12),
        ("1,000", 1000),
        ("4MB", 1_000_000),
        ("8 b", 2),
    ],
)
def test_a_limit_of_weights(given: str, weights: int) -> None:
    assert weights_of(given) == weights


@pytest.mark.parametrize("given", ["few", "", "1X", "-1M", "0", "1MBB", "3b"])
def test_a_limit_that_cannot_be_read(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--weights .* cannot be read; give a number such as 1M or 800k, or bytes"):
        weights_of(given)
