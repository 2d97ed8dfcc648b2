"""Traced and exported models: the composition is in them, and row numbers are never kept for other batches in silence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.errors import CompositionError
from tests.support.attached import lively
from tests.zoo.models import build

BY_NUMBER = {
    "mixed": gw.MixedBatch(["a", "b", None]),
    "split": gw.BatchSplit("a", "b", batch_sizes=[1, 2]),
    "replicate": gw.Replicate("a", "b"),
    "positions": gw.Split("a", "b", splits=[3, 4]),
    "in a stack": gw.Stack("a", gw.MixedBatch(["a", "b", None])),
}


class Plain(nn.Module):
    """A model with tensors in and out, as tracing takes it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids).last_hidden_state
        return states


def standing(composition: Any) -> Plain:
    zoo = build("bert")
    adapters = gw.attach(zoo.model)
    for name in "ab":
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4))
        lively(adapters, name, seed=ord(name))
    adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    lively(adapters, "f")
    adapters.active = composition
    return Plain(zoo.model)


def words(rows: int, positions: int) -> Tensor:
    return torch.arange(4, 4 + rows * positions).reshape(rows, positions)


@pytest.mark.parametrize("composition", ["a", gw.Fuse("a", "b", name="f"), gw.Average("a", "b")], ids=str)
@torch.no_grad()
def test_one_composition_for_all_rows_is_traced_for_every_shape(composition: Any) -> None:
    model = standing(composition)
    traced = torch.jit.trace(model, (words(3, 7),), strict=False, check_trace=False)
    for ids in (words(3, 7), words(2, 9)):
        torch.testing.assert_close(traced(ids), model(ids))


@pytest.mark.parametrize("kind", BY_NUMBER)
@torch.no_grad()
def test_rows_and_positions_by_number_are_refused_while_tracing(kind: str) -> None:
    model = standing(BY_NUMBER[kind])
    expected = model(words(3, 7))
    with pytest.raises(CompositionError, match=r"torch\.jit\.trace .* use torch\.export\.export"):
        torch.jit.trace(model, (words(3, 7),), strict=False, check_trace=False)
    assert torch.equal(model(words(3, 7)), expected)


@pytest.mark.parametrize("kind", BY_NUMBER)
@torch.no_grad()
def test_rows_by_number_are_exported_for_their_batch_and_no_other(kind: str) -> None:
    model = standing(BY_NUMBER[kind])
    exported = torch.export.export(model, (words(3, 7),), strict=False).module()
    torch.testing.assert_close(exported(words(3, 7)), model(words(3, 7)))
    for other in (words(4, 7), words(1, 7), words(3, 8)):
        with pytest.raises((RuntimeError, AssertionError)):
            exported(other)


@pytest.mark.parametrize("kind", ["one", "fuse"])
@torch.no_grad()
def test_texts_of_any_length(kind: str) -> None:
    """As a free dimension of an export, positions stay one."""
    model = standing({"one": "a", "fuse": gw.Fuse("a", "b", name="f")}[kind])
    positions = torch.export.Dim("positions", min=2, max=30)
    shapes = {"input_ids": {1: positions}}
    exported = torch.export.export(model, (words(3, 7),), strict=False, dynamic_shapes=shapes).module()
    for length in (7, 11):
        torch.testing.assert_close(exported(words(3, length)), model(words(3, length)))


@torch.no_grad()
def test_a_batch_size_that_may_change_is_no_row_number() -> None:
    """As a free dimension of an export, the batch size of a composition by rows is refused when the model is exported."""
    rows = torch.export.Dim("rows", min=1, max=8)
    with pytest.raises(Exception, match="rows"):
        torch.export.export(
            standing(BY_NUMBER["mixed"]), (words(3, 7),), strict=False, dynamic_shapes={"input_ids": {0: rows}}
        )
