"""Prompt learning of peft under the laws of the contract: its start, what learns, files, refusals, narrow bases, padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.contract import test_contract as contract
from tests.contract.cases import Case, loss
from tests.peft_bridge.test_prompts import KINDS
from tests.support.attached import assert_same, checkpoint, snapshot
from tests.zoo.models import build

peft = pytest.importorskip("peft")
MakeCase = Callable[..., "PromptCase"]
MODELS = ("bert", "gpt2")

# The laws that are said of any adapter, whoever computes it.
test_the_configuration_goes_to_json_and_back = contract.test_the_configuration_goes_to_json_and_back
test_what_learns_is_the_adapter_and_nothing_else = contract.test_what_learns_is_the_adapter_and_nothing_else
test_inactive_it_changes_no_bit = contract.test_inactive_it_changes_no_bit
test_three_steps_move_it_and_not_the_base = contract.test_three_steps_move_it_and_not_the_base
test_gradients_reach_all_of_it_and_none_of_the_base = contract.test_gradients_reach_all_of_it_and_none_of_the_base
test_saved_and_loaded_it_is_the_same_bit_for_bit = contract.test_saved_and_loaded_it_is_the_same_bit_for_bit
test_removing_and_detaching_leave_nothing = contract.test_removing_and_detaching_leave_nothing


class PromptCase(Case):
    """A fresh model with two prompts of one kind, ``"a"`` at its start and ``"b"`` anywhere else."""

    def __init__(self, kind: str, model: str, dtype: torch.dtype = torch.float32) -> None:
        self.kind = kind
        self.stand(KINDS[kind](), model, dtype)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, model: str) -> MakeCase:
    kind = str(request.param)
    return lambda dtype=torch.float32: PromptCase(kind, model, dtype)


def test_it_starts_as_peft_says(case: MakeCase) -> None:
    """The same draws give the same start, which is none of the base's own."""
    here = case()
    torch.manual_seed(11)
    theirs = peft.get_peft_model(build(here.name).model, KINDS[here.kind]())
    expected = theirs.prompt_encoder["default"].state_dict()
    actual = {key.removeprefix("prompt."): tensor for key, tensor in here.adapters.shared_of("a").state_dict().items()}
    assert actual.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(actual[key], tensor), key
    with torch.no_grad():
        plain, start = here.run(None), here.run("a")
    assert torch.isfinite(start).all()
    contract.differ(start, plain)


def test_blocks_that_weigh_or_give_rows_are_refused(case: MakeCase) -> None:
    here = case()
    rows = len(next(iter(here.zoo.inputs.values())))
    before = snapshot(here.model)
    for block in (
        gw.Average("a", "b"),
        gw.BatchSplit("a", None, batch_sizes=[1, rows - 1]),
        gw.MixedBatch(["a"] * rows),
        gw.Replicate("a", "b"),
        gw.Split("a", None, splits=[1, 1]),
        gw.Stack(gw.Average("a"), "b"),
    ):
        with pytest.raises(gw.CompositionError, match="Stack, or alone"):
            here.adapters.active = block
    with pytest.raises(gw.CompositionError, match="Stack, or alone"):
        here.adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    with pytest.raises(gw.ConfigError, match="computed by peft"):
        here.adapters.merge("c", ["a", "b"])
    assert here.adapters.active is None and not here.adapters.fusions
    assert_same(before, snapshot(here.model))
    with torch.no_grad():
        assert torch.equal(here.run(gw.Stack("b")), here.run("b"))


def test_in_a_bfloat16_base_it_stays_float32_and_learns(case: MakeCase) -> None:
    here, reference = case(torch.bfloat16), case()
    here.adapters.train_only("b")
    output = here.run("b")
    assert output.dtype is torch.bfloat16
    loss(output).backward()
    for name, p in here.weights("b").items():
        assert p.dtype is torch.float32, name
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
    contract.close(output.float(), reference.run("b"), 0.1)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(case: MakeCase, reentrant: bool) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.train_only(["a", "b"], active="a")
    here.model.train()

    expected = here.gradients("a", "b")
    checkpoint(here.model, reentrant)
    here.require_gradients(here.gradients("a", "b"), expected)


def test_right_padding_never_changes_an_unpadded_position(case: MakeCase) -> None:
    here = case(torch.float64)
    here.unsettle("a")
    inputs = dict(here.zoo.inputs)
    kept = inputs["attention_mask"].bool()
    length = kept.shape[1]
    more = {key: torch.nn.functional.pad(inputs[key], (0, 3), value=n) for key, n in PADDING.items()}
    outputs = [here.run("a", **change).detach() for change in ({}, more, {**more, "input_ids": filled(more)})]
    assert outputs[0].shape[1] == length
    short, *longer = (out[:, :length] for out in outputs)
    for out in longer:
        contract.close(out[kept], short[kept], 1e-6)


PADDING = {"input_ids": 9, "attention_mask": 0}


def filled(inputs: dict[str, Tensor]) -> Tensor:
    """Other tokens where there is padding."""
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 17)
