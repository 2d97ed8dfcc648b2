"""The contract for unions of our own methods: one adapter that is several, and every law of an adapter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import graftwork as gw
from graftwork.compose.reads import BranchReads, SiteContext
from graftwork.compose.tree import node_for
from tests.contract import test_contract as contract
from tests.contract.cases import Case

MODELS = ("bert", "t5", "gpt2")
UNIONS: dict[str, Callable[[], gw.AdapterConfig]] = {
    # other reads, other sites, a gate, dropout
    "mixed": lambda: gw.Union(
        gw.Pfeiffer(dropout=0.1),
        gw.Parallel(bottleneck_size=5),
        gw.Bottleneck(sites=("attention",), reads="residual", gate=True),
    ),
    # one read, plain features: banked
    "banked": lambda: gw.Union(gw.Bottleneck(), gw.Bottleneck(activation="gelu", up_bias=False, skip="low_rank")),
    # into the branch and behind its norm at one site
    "two_places": lambda: gw.Union(gw.Pfeiffer(), gw.AdapterPlus(writes="stream", reduction_factor=4)),
    # tensors shared by sites, attention over positions
    "shared": lambda: gw.Union(gw.Compacter(), gw.PAL(size=8, heads=2)),
    "norms": lambda: gw.Union(gw.Houlsby(bottleneck_size=4), gw.Parallel()),
}
TWO_PLACES = {"two_places"}


class UnionCase(Case):
    """A fresh model with two adapters of one union, ``"a"`` at its start and ``"b"`` anywhere else."""

    def __init__(self, config: gw.AdapterConfig, model: str, dtype: torch.dtype = torch.float32) -> None:
        self.stand(config, model, dtype)


test_the_configuration_goes_to_json_and_back = contract.test_the_configuration_goes_to_json_and_back
test_what_learns_is_the_adapter_and_nothing_else = contract.test_what_learns_is_the_adapter_and_nothing_else
test_every_adapter_stands_where_its_summary_says = contract.test_every_adapter_stands_where_its_summary_says
test_inactive_it_changes_no_bit = contract.test_inactive_it_changes_no_bit
test_it_starts_as_it_says = contract.test_it_starts_as_it_says
test_the_seed_decides_and_no_two_sites_are_alike = contract.test_the_seed_decides_and_no_two_sites_are_alike
test_three_steps_move_it_and_not_the_base = contract.test_three_steps_move_it_and_not_the_base
test_gradients_reach_all_of_it_and_none_of_the_base = contract.test_gradients_reach_all_of_it_and_none_of_the_base
test_checkpointing_gives_the_same_gradients = contract.test_checkpointing_gives_the_same_gradients
test_laws_of_composition = contract.test_laws_of_composition
test_saved_and_loaded_it_is_the_same_bit_for_bit = contract.test_saved_and_loaded_it_is_the_same_bit_for_bit
test_in_a_bfloat16_base_it_stays_float32_and_learns = contract.test_in_a_bfloat16_base_it_stays_float32_and_learns
test_right_padding_never_changes_an_unpadded_position = contract.test_right_padding_never_changes_an_unpadded_position
test_removing_and_detaching_leave_nothing = contract.test_removing_and_detaching_leave_nothing


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=UNIONS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(kind: str, model: str) -> Callable[..., UnionCase]:
    return lambda dtype=torch.float32: UnionCase(UNIONS[kind](), model, dtype)


def test_a_fusion_of_one_with_v_the_identity_is_that_one(case: Callable[..., UnionCase], kind: str) -> None:
    if kind in TWO_PLACES:
        here = case(torch.float64)
        with pytest.raises(gw.CompositionError, match="writes into the branch and"):
            here.adapters.add_fusion(gw.Fuse("a", name="f"))
        assert not here.adapters.fusions
        return
    contract.test_a_fusion_of_one_with_v_the_identity_is_that_one(case)


def test_weighed_its_whole_addition_is_weighed(case: Callable[..., UnionCase], kind: str) -> None:
    """0.25 · a(reads) + 0.75 · b(reads) at every site, banked or not."""
    here = case(torch.float64)
    here.unsettle("a")
    one, two = (here.adapters.modules_of(name) for name in ("a", "b"))
    block = gw.Average("a", "b", weights=[0.25, 0.75])
    generator = torch.Generator().manual_seed(3)
    for key in one:
        width = here.adapters.sites[key].width
        value, s, x = (torch.randn(2, 5, width, generator=generator, dtype=torch.float64) for _ in range(3))
        reads = BranchReads(value, {"residual": s, "input": x, "layer_input": x}, SiteContext(2))
        for where in ("branch", "stream"):
            parts = {"a": one[key].writing(where), "b": two[key].writing(where)}
            node = node_for(block, parts.__getitem__, lambda name: None, key)
            if node is None:
                continue
            assert (node.bank is not None) is parts["a"].banked
            with torch.no_grad():
                a, b = (node_for(name, parts.__getitem__, lambda name: None, key)(reads) for name in parts)
                contract.close(node(reads), 0.25 * a + 0.75 * b, 1e-6)
    assert all(m.banked for m in one.values()) is (kind == "banked")
