"""The example of residual adapters: what it prints, and that its check can fail."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

DIGITS = Path(__file__).parents[2] / "examples" / "residual_adapters" / "digits.py"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    pytest.importorskip("sklearn")
    return runpy.run_path(str(DIGITS))


def few(example: dict[str, Any]) -> Any:
    """Every domain cut to some of its images."""
    return {name: tuple(part[:128] for part in parts) for name, parts in example["domains"](0).items()}


def test_the_domains_are_views_of_the_same_digits(example: dict[str, Any]) -> None:
    found = example["domains"](0)
    images, labels, test, truth = found["digits"]
    assert (len(images), len(test)) == (1257, 540)
    assert images.shape[1:] == (1, 32, 32)
    assert torch.equal(found["inverted"][0], 1 - images)
    assert torch.equal(found["rotated"][0].rot90(-1, (2, 3)), images)
    assert float((found["noisy"][0] - images).std()) == pytest.approx(0.4, rel=0.02)
    assert all(torch.equal(parts[1], labels) and torch.equal(parts[3], truth) for parts in found.values())


@pytest.mark.parametrize("mode", ["series", "parallel"])
def test_domains_on_one_model_leave_what_was_there(example: dict[str, Any], mode: str) -> None:
    torch.manual_seed(0)
    scores, weights, same = example["together"](example["new_trunk"](), few(example), 1, 0, mode)
    assert list(scores) == ["inverted", "rotated", "noisy"]
    assert weights > 5000
    assert same


def test_the_check_sees_a_trunk_that_moves(example: dict[str, Any]) -> None:
    """Learning that reaches the trunk's statistics is found."""
    torch.manual_seed(0)
    together = example["together"]
    train = together.__globals__["train"]

    def moves(model: Any, *args: Any, **options: Any) -> None:
        train(model, *args, **options)
        model.resnet.embedder.embedder.normalization.running_mean.add_(1)

    together.__globals__["train"] = moves
    try:
        assert not together(example["new_trunk"](), few(example), 1, 0, "parallel")[2]
    finally:
        together.__globals__["train"] = train
