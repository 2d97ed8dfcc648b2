"""The blocks that learn how to combine: what all of them do, and what ScaLearn and Route are. All in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.compose import LearnedConfig, config_class
from graftwork.errors import CheckpointError, CompositionError, ConfigError
from graftwork.methods.layers import experts
from tests.checkpoint.common import edit_json
from tests.support.interpreter import Lab, close

KINDS: dict[str, tuple[type[gw.Learned], dict[str, Any]]] = {
    "fuse": (gw.Fuse, {}),
    "fuse, static": (gw.Fuse, {"value": False, "query": "output"}),
    "scalearn": (gw.ScaLearn, {}),
    "scalearn++": (gw.ScaLearn, {"across_layers": True}),
    "scalearn uniform": (gw.ScaLearn, {"uniform": True}),
    "scalearn uniform++": (gw.ScaLearn, {"uniform": True, "across_layers": True, "dropout": 0.0}),
    "route": (gw.Route, {}),
    "route, one": (gw.Route, {"top_k": 1, "reads": "output"}),
    "route, all": (gw.Route, {"top_k": 3}),
}
DROPOUT = {"scalearn", "scalearn++", "scalearn uniform"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lab(kind: str, model: str = "bert", **adapters: gw.AdapterConfig) -> tuple[Lab, gw.Learned]:
    """A model with three adapters and a learned block of them, all off their start."""
    here = Lab(model)
    default = {name: gw.Pfeiffer(bottleneck_size=3) for name in "abc"}
    for name, config in (adapters or default).items():
        here.add(name, config)
    cls, options = KINDS[kind]
    block = cls(*(adapters or default), name="x")
    here.add_fusion(block, **options)
    return here, block


def config(kind: str) -> LearnedConfig:
    cls, options = KINDS[kind]
    return config_class(cls("a"))(**options)


# -- all of them -------------------------------------------------------------------------------------------------------


def test_the_configuration_goes_to_json_and_back(kind: str) -> None:
    one = config(kind)
    assert type(one).from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_the_block_goes_to_json_and_back(kind: str) -> None:
    block = KINDS[kind][0]("a", gw.Stack("b", "c"), name="x", norms="base")
    assert gw.composition_from_dict(json.loads(json.dumps(block.to_dict()))) == block


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_it_is_its_formula(kind: str, model: str) -> None:
    here, block = lab(kind, model)
    close(here.run(block), here.expect(block), 1e-9)


MIXED = {
    "a": gw.Pfeiffer(bottleneck_size=3),
    "b": gw.Bottleneck(sites=("feed_forward",), gate=True, norm_before=True, bottleneck_size=2),
    "c": gw.Bottleneck(sites=("attention", "feed_forward"), norm_after=True, activation="gelu", bottleneck_size=4),
}


def test_it_is_its_formula_over_children_of_every_sort(kind: str) -> None:
    """Other ranks, reads and sites, a gate, an adapter that cannot be banked."""
    here, block = lab(kind, **MIXED)
    close(here.run(block), here.expect(block), 1e-9)


def test_it_is_its_formula_over_blocks_and_inside_them(kind: str) -> None:
    here = Lab("bert")
    for name in "abc":
        here.add(name, gw.Pfeiffer(bottleneck_size=3))
    cls, options = KINDS[kind]
    block = cls("a", gw.Stack("b", "c"), gw.Average("a", None), name="x")
    here.add_fusion(block, **options)
    rows = len(here.inputs["input_ids"])
    for whole in (block, gw.Stack("a", block), gw.MixedBatch(["b", *[block] * (rows - 1)])):
        close(here.run(whole), here.expect(whole), 1e-9)


def test_only_its_own_weights_learn_and_all_of_them(kind: str) -> None:
    here, block = lab(kind)
    here.adapters.train_only(block)
    here.model.train()
    (here.run(block).sin().sum() + here.adapters.auxiliary_loss()).backward()
    owned = [*here.adapters.modules_of("x").values()]
    shared = here.adapters.shared_of("x")
    mine = {id(p) for m in [*owned, *([] if shared is None else [shared])] for p in m.parameters()}
    for name, p in here.model.named_parameters():
        assert p.requires_grad is (id(p) in mine), name
        if id(p) in mine:
            assert p.grad is not None, name
            assert p.grad.any() or name.endswith("key_bias"), name
    (row,) = [row for row in here.adapters.summary().rows if row.name == "x"]
    assert row.weights == sum(p.numel() for p in here.model.parameters() if p.requires_grad)


def test_a_child_that_stands_nowhere_here_has_a_gradient_all_the_same(kind: str) -> None:
    here, block = lab(
        kind, a=gw.Pfeiffer(bottleneck_size=3), b=gw.Houlsby(bottleneck_size=3, norms="base"), c=gw.Pfeiffer()
    )
    here.adapters.train_only(block)
    (here.run(block).sin().sum() + here.adapters.auxiliary_loss()).backward()
    assert all(p.grad is not None for p in here.model.parameters() if p.requires_grad)


def test_saved_and_loaded_it_is_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    here, block = lab(kind)
    with torch.no_grad():
        before = here.run(block)
        here.adapters.save(block, tmp_path / "x")
        here.adapters.save(block, tmp_path / "all", members=True)
        made = here.adapters.config("x")
        here.adapters.remove("x")
        assert here.adapters.load(tmp_path / "x") == "x"
        assert here.adapters.fusions["x"] == block and here.adapters.config("x") == made
        assert torch.equal(here.run(block), before)
        here.adapters.load(tmp_path / "x", "other.name")
        assert torch.equal(here.run("other.name"), before)
        there = Lab("bert")
        assert there.adapters.load(tmp_path / "all") == block
        assert torch.equal(there.run(block), before)


def test_removing_leaves_nothing(kind: str) -> None:
    here, _ = lab(kind)
    here.adapters.remove("x")
    assert not any("n_x" in name.split(".") for name, _ in here.model.named_modules())


def test_a_frozen_one_is_a_fixed_function_in_training_too(kind: str) -> None:
    here, block = lab(kind)
    here.adapters.train_only("a", active=block)
    for name in "abcx":  # the model's own dropout stays off
        for module in here.adapters.modules_of(name).values():
            module.train()
    with torch.no_grad():
        first = here.run(block)
        assert torch.equal(here.run(block), first)
        assert here.adapters.auxiliary_loss() == 0
        here.adapters.train_only(block)
        still = kind not in DROPOUT and not kind.startswith("route")
        assert torch.equal(here.run(block), here.run(block)) is still


def test_checkpointing_gives_the_same_gradients(kind: str) -> None:
    here, block = lab(kind)
    here.adapters.train_only(block)
    here.model.train()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        (here.run(block).sin().sum() + here.adapters.auxiliary_loss()).backward()
        found.append([p.grad.clone() for p in here.model.parameters() if p.grad is not None])
        here.model.zero_grad(set_to_none=True)
        here.model.gradient_checkpointing_enable({"use_reentrant": False})
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_configuration_of_another_block_is_refused(kind: str) -> None:
    here, block = lab(kind)
    wrong = gw.FusionConfig() if block.kind != "fuse" else gw.RouteConfig()
    for given in (wrong, gw.Pfeiffer(), {}):
        with pytest.raises(ConfigError, match=rf"no configuration of it; give gw\.{config_class(block).__name__}"):
            here.adapters.add_fusion(type(block)("a", "b", name="y"), given)
    assert "y" not in here.adapters.fusions


def test_a_name_belongs_to_one_kind_of_block(kind: str) -> None:
    here, block = lab(kind)
    other = gw.Fuse if block.kind != "fuse" else gw.Route
    with pytest.raises(CompositionError, match=f"'x' is a {type(block).__name__}; it was added as"):
        here.run(other("a", "b", "c", name="x"))


def test_a_damaged_configuration_in_a_file_is_refused(kind: str, tmp_path: Path) -> None:
    here, block = lab(kind)
    here.adapters.save(block, tmp_path / "x")
    edit_json(tmp_path / "x", lambda data: data["config"].update(colour="red"))
    here.adapters.remove("x")
    with pytest.raises(CheckpointError, match="colour"):
        here.adapters.load(tmp_path / "x")


def test_a_fusions_file_says_what_it_always_said() -> None:
    """Files that are written today are those of before there were other blocks that learn, and are read by them."""
    options = (
        "query value dropout temperature temperature_steps residual_before regularization init_std value_std dtype"
    )
    assert set(gw.FusionConfig().to_dict()) == set(options.split())
    assert gw.FusionConfig(projection_rank=4).to_dict()["projection_rank"] == 4
    assert gw.Fuse("a", name="f").to_dict() == {"block": "fuse", "children": ["a"], "name": "f", "norms": None}


# -- those with weights for each child ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scalearn", "scalearn++", "scalearn uniform", "route", "route, all"])
def test_fewer_children_in_any_order_have_their_own_weights(kind: str) -> None:
    here, block = lab(kind)
    for children in (("c", "a", "b"), ("c", "a"), ("b",)):
        part = type(block)(*children, name="x")
        close(here.run(part), here.expect(part), 1e-9)
    with pytest.raises(CompositionError, match="has no weights for None; its pool is 'a', 'b', 'c'"):
        here.run(type(block)("a", None, name="x"))
    with pytest.raises(CompositionError, match="has no weights for 'a'"):
        here.run(type(block)("a", "a", name="x"))


# -- ScaLearn ----------------------------------------------------------------------------------------------------------


def test_scales_of_one_are_the_sum_and_of_one_over_n_the_average() -> None:
    here, block = lab("scalearn")
    for value, weights in ((1.0, [1, 1, 1]), (1 / 3, [1 / 3] * 3), (0.0, [0, 0, 0])):
        for module in here.adapters.modules_of("x").values():
            module.own.data.fill_(value)
        close(here.run(block), here.run(gw.Average(*"abc", weights=weights, normalize=False)), 1e-12)


def test_scales_start_at_two_over_n() -> None:
    here = Lab("bert")
    for name in "abcd":
        here.add(name, gw.Pfeiffer(bottleneck_size=3))
    here.adapters.add_fusion(gw.ScaLearn(*"abcd", name="s"))
    scales = torch.cat([m.own for m in here.adapters.modules_of("s").values()])
    assert scales.mean() == pytest.approx(0.5, abs=5e-4)
    assert scales.std() == pytest.approx(1e-3, rel=0.2)
    assert len(scales.unique()) > 0.9 * scales.numel()


def test_dropout_leaves_out_whole_scales_and_only_while_they_learn() -> None:
    here, block = lab("scalearn")
    here.adapters.train_only(block)
    here.model.train()
    (module, *_) = here.adapters.modules_of("x").values()
    dropped = module.scales(torch.device("cpu"))
    zeros = dropped == 0
    assert 0.05 < float(zeros.double().mean()) < 0.6
    torch.testing.assert_close(dropped[~zeros], module.own[~zeros] / 0.7)


def test_layers_share_scales_and_kinds_of_sites_do_not() -> None:
    here = Lab("bert")
    for name in "ab":
        here.add(name, gw.Houlsby(bottleneck_size=3, norms="base"))
    here.adapters.add_fusion(gw.ScaLearn("a", "b", name="s"), gw.ScaLearnConfig(across_layers=True))
    shared = here.adapters.shared_of("s")
    assert shared is not None
    assert [n.rpartition("/")[2] for n, _ in shared.named_parameters()] == ["attention", "feed_forward"]
    assert not any(list(m.parameters()) for m in here.adapters.modules_of("s").values())


def test_what_is_kept_of_frozen_scales_is_remade_when_they_change() -> None:
    here, block = lab("scalearn")
    with torch.no_grad():
        for _ in range(2):
            close(here.run(block), here.expect(block), 1e-9)
            here.unsettle("x")


# -- Route -------------------------------------------------------------------------------------------------------------


def test_all_children_and_equal_logits_are_the_average() -> None:
    here, block = lab("route, all")
    for module in here.adapters.modules_of("x").values():
        module.gate.weight.data.zero_()
    close(here.run(block), here.run(gw.Average("a", "b", "c")), 1e-12)


def test_among_equals_the_first_is_chosen() -> None:
    here, block = lab("route, one")
    for module in here.adapters.modules_of("x").values():
        module.gate.weight.data.zero_()
    close(here.run(block), here.run("a"), 1e-12)
    close(here.run(gw.Route("c", "b", name="x")), here.run("c"), 1e-12)


@pytest.mark.parametrize("always", [False, True])
def test_both_ways_to_compute_it_are_one(always: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    here, block = lab("route")
    monkeypatch.setattr(experts, "chosen_pay", lambda *sizes: always)
    close(here.run(block), here.expect(block), 1e-9)
    here.adapters.train_only(["a", "x"], active=block)
    here.run(block).sin().sum().backward()
    assert all(p.grad is not None for p in here.model.parameters() if p.requires_grad)


def test_its_gates_can_be_read_out() -> None:
    here, block = lab("route")
    here.adapters.active = block
    weights: dict[str, Tensor] = here.adapters.fusion_weights(**here.inputs)["x"]
    assert set(weights) == set(here.adapters.modules_of("x"))
    for gates in weights.values():
        assert gates.shape == (*here.inputs["input_ids"].shape, 3)
        torch.testing.assert_close(gates.sum(-1), torch.ones_like(gates[..., 0]))
        assert (gates > 0).sum(-1).unique().tolist() == [2]


def test_more_chosen_than_there_are_is_refused() -> None:
    here = Lab("bert")
    here.add("a", gw.Pfeiffer(bottleneck_size=3))
    with pytest.raises(ConfigError, match=r"top_k is 2, but .* has 1 children; give a number up to that"):
        here.adapters.add_fusion(gw.Route("a", name="r"))
    assert not here.adapters.fusions
