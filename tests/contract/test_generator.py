"""The contract for methods that need a latent: its laws on a small generator, with and without a class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import graftwork as gw
from tests.contract.cases import OF_A_LATENT, loss
from tests.contract.generator import GeneratorCase
from tests.contract.test_contract import (
    MakeCase,
    test_a_fusion_of_one_with_v_the_identity_is_that_one,
    test_a_start_at_zero_changes_no_bit,
    test_adding_leaves_the_global_random_state_to_the_user,
    test_every_adapter_stands_where_its_summary_says,
    test_gradients_reach_all_of_it_and_none_of_the_base,
    test_in_a_bfloat16_base_it_stays_float32_and_learns,
    test_inactive_it_changes_no_bit,
    test_it_starts_as_it_says,
    test_laws_of_composition,
    test_removing_and_detaching_leave_nothing,
    test_saved_and_loaded_it_is_the_same_bit_for_bit,
    test_the_configuration_goes_to_json_and_back,
    test_the_seed_decides_and_no_two_sites_are_alike,
    test_three_steps_move_it_and_not_the_base,
    test_weighing_two_whose_norms_differ_is_refused,
    test_what_learns_is_the_adapter_and_nothing_else,
)

__all__ = [
    "test_a_fusion_of_one_with_v_the_identity_is_that_one",
    "test_a_start_at_zero_changes_no_bit",
    "test_adding_leaves_the_global_random_state_to_the_user",
    "test_every_adapter_stands_where_its_summary_says",
    "test_gradients_reach_all_of_it_and_none_of_the_base",
    "test_in_a_bfloat16_base_it_stays_float32_and_learns",
    "test_inactive_it_changes_no_bit",
    "test_it_starts_as_it_says",
    "test_laws_of_composition",
    "test_removing_and_detaching_leave_nothing",
    "test_saved_and_loaded_it_is_the_same_bit_for_bit",
    "test_the_configuration_goes_to_json_and_back",
    "test_the_seed_decides_and_no_two_sites_are_alike",
    "test_three_steps_move_it_and_not_the_base",
    "test_weighing_two_whose_norms_differ_is_refused",
    "test_what_learns_is_the_adapter_and_nothing_else",
]

CLASSES = {"classes": 3, "label": "y"}


@pytest.fixture(params=[False, True], ids=["latent", "latent and class"])
def case(request: pytest.FixtureRequest, method: str) -> MakeCase:
    more = CLASSES if request.param else {}
    return lambda dtype=torch.float32, **options: GeneratorCase(method, dtype, **more, **options)


@pytest.fixture(params=sorted(OF_A_LATENT))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(case: MakeCase, reentrant: bool) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.train_only(["a", "b"], active=gw.Stack("a", "b"))

    def gradients() -> dict[str, Tensor]:
        outputs = [here.run(c) for c in ("a", gw.MixedBatch(["b", "a", "a", "b"]))]
        sum(loss(output) for output in outputs).backward()
        found = {n: p.grad.clone() for n, p in here.model.named_parameters() if p.grad is not None}
        here.model.zero_grad(set_to_none=True)
        return found

    expected = gradients()
    here.model.around = lambda run, h: checkpoint(here.adapters.bind(run), h, use_reentrant=reentrant)
    actual = gradients()
    assert actual.keys() == expected.keys() == {**here.weights("a"), **here.weights("b")}.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(actual[name], grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("composition", ["a", gw.MixedBatch(["a", "b", None, "a"])], ids=["one", "rows"])
def test_it_compiles_whole(case: MakeCase, composition: gw.Composition) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.active = composition
    inputs = here.zoo.inputs
    torch._dynamo.reset()
    compiled = torch.compile(here.model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs), here.model(**inputs))


def test_under_autocast_it_is_computed_narrow_and_learns(case: MakeCase) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.train_only("a")
    expected = here.run("a")
    with torch.autocast("cpu", torch.bfloat16):
        output = here.run("a")
    assert output.dtype is torch.bfloat16
    assert float((output.float() - expected).detach().abs().max()) < 0.1
    loss(output.float()).backward()
    assert all(p.grad is not None and p.grad.any() for p in here.weights("a").values())
