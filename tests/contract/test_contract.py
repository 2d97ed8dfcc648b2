"""The contract: what every registered method does on every kind of model, so that a new one is tested the day it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.contract.cases import (
    AT_CONVOLUTIONS,
    CHOOSES,
    CONVOLUTIONAL,
    CROSSING,
    HAS_A_LOSS,
    LEARNS_IN_TRAINING,
    METHODS,
    MODELS,
    OF_A_LATENT,
    OPTIONS,
    REFUSED,
    STANDS_NOWHERE,
    UNWEIGHABLE,
    Case,
    loss,
    sites_of,
)
from tests.zoo.models import build, clone_inputs, main_output

MakeCase = Callable[..., Case]
TEXT = {"bert", "gpt2", "t5"}
# Methods whose trained weights all start at constants.
DRAWS_NOTHING = {"ia3", "vera"}
# The methods that add exactly nothing before they are trained; a new one says here whether it does.
STARTS_AT_THE_BASE = {"dora", "ia3", "lora", "parallel", "vera"}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=METHODS)
def case(request: pytest.FixtureRequest, model: str) -> MakeCase:
    """Makes the case; ``case(torch.float64, init="zero")`` in another dtype, with other options."""
    method = str(request.param)
    if (method, model) in STANDS_NOWHERE:
        pytest.skip(STANDS_NOWHERE[method, model])
    return lambda dtype=torch.float32, **options: Case(method, model, dtype, **options)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    off = float((actual - expected).detach().abs().max()) / max(float(expected.detach().abs().max()), 1e-12)
    assert off <= tolerance, off


def differ(one: Tensor, other: Tensor) -> None:
    assert float((one - other).detach().abs().max()) > 1e-5


# -- what it is --------------------------------------------------------------------------------------------------------


def test_the_configuration_goes_to_json_and_back(case: MakeCase) -> None:
    config = case().config
    assert gw.config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(("method", "model"), REFUSED)
def test_where_it_stands_nowhere_it_is_refused(method: str, model: str) -> None:
    base = build(model).model
    adapters = gw.attach(base, sites=sites_of(model))
    before = [*base.state_dict()]
    with pytest.raises((gw.SiteError, gw.ConfigError), match=REFUSED[method, model]) as caught:
        adapters.add("a", gw.methods()[method]())
    assert gw.methods()[method].__name__ in str(caught.value)
    assert not adapters.names
    assert [*base.state_dict()] == before
    assert not any("graftwork" in name.split(".") for name in base.state_dict())


def test_what_learns_is_the_adapter_and_nothing_else(case: MakeCase) -> None:
    here = case()
    here.adapters.train_only("a")
    learning = {n: p for n, p in here.model.named_parameters() if p.requires_grad}
    assert learning.keys() == here.weights("a").keys()
    assert learning
    row = next(r for r in here.adapters.summary().rows if r.name == "a")
    assert sum(p.numel() for p in learning.values()) == row.weights
    assert all("graftwork" in name.split(".") for name in learning)
    assert all(p.dtype is torch.float32 for p in learning.values())


def test_every_adapter_stands_where_its_summary_says(case: MakeCase) -> None:
    here = case()
    assert set(here.adapters.modules_of("a")) == set(here.adapters.modules_of("b"))
    assert set(here.adapters.modules_of("a")) <= {here.adapters.sites.key_of(s) for s in here.adapters.sites.places}
    shapes = [[p.shape for p in m.parameters()] for m in here.owned("a")]
    assert shapes == [[p.shape for p in m.parameters()] for m in here.owned("b")]


# -- how it starts -----------------------------------------------------------------------------------------------------


def test_inactive_it_changes_no_bit(case: MakeCase) -> None:
    here = case()
    with torch.no_grad():
        plain = here.run(None)
        here.adapters.detach()
        assert torch.equal(plain, main_output(here.model(**clone_inputs(here.zoo.inputs))))


def test_a_start_at_zero_changes_no_bit(case: MakeCase) -> None:
    if not any(f == "init" for f in case().config.to_dict()):
        pytest.skip("the method has no option init")
    here = case(init="zero")
    with torch.no_grad():
        assert torch.equal(here.run("a"), here.run(None))


def test_it_starts_as_it_says(case: MakeCase) -> None:
    here = case()
    with torch.no_grad():
        plain, start, moved = here.run(None), here.run("a"), here.run("b")
    assert torch.equal(start, plain) is (here.config.method in STARTS_AT_THE_BASE)
    assert torch.isfinite(start).all()
    differ(moved, plain)


def test_the_seed_decides_and_no_two_sites_are_alike(case: MakeCase) -> None:
    first, second = case(), case()
    for (name, one), (_, other) in zip(first.weights("a").items(), second.weights("a").items(), strict=True):
        assert torch.equal(one, other), name
    matrices = [p for m in first.adapters.modules_of("a").values() for p in m.parameters() if p.dim() > 1 and p.any()]
    for n, one in enumerate(matrices):
        for other in matrices[n + 1 :]:
            assert one.shape != other.shape or not torch.equal(one, other)


def test_adding_leaves_the_global_random_state_to_the_user(case: MakeCase) -> None:
    """It draws from the state, and does not set it: another seed before gives other weights."""
    here = case()
    if here.config.method in DRAWS_NOTHING:
        pytest.skip("what it trains starts at constants")
    torch.manual_seed(1)
    here.adapters.add("c", here.config)
    torch.manual_seed(2)
    here.adapters.add("d", here.config)
    pairs = zip(here.weights("c").values(), here.weights("d").values(), strict=True)
    assert any(not torch.equal(c, d) for c, d in pairs)


# -- how it learns -----------------------------------------------------------------------------------------------------


def test_three_steps_move_it_and_not_the_base(case: MakeCase) -> None:
    here = case()
    here.adapters.train_only("a")
    before, mine = here.base(), {n: p.detach().clone() for n, p in here.weights("a").items()}
    other = {n: p.detach().clone() for n, p in here.weights("b").items()}
    optimiser = torch.optim.AdamW([p for p in here.model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    here.model.train()
    for _ in range(3):
        loss(here.run("a")).backward()
        optimiser.step()
        optimiser.zero_grad()
    after = here.base()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    for name, p in here.weights("b").items():
        assert torch.equal(p, other[name]), name
    for name, p in here.weights("a").items():
        assert not torch.equal(p, mine[name]), name


def test_gradients_reach_all_of_it_and_none_of_the_base(case: MakeCase) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.train_only("a")
    here.model.train(here.config.method in LEARNS_IN_TRAINING)
    loss(here.run("a")).backward()
    mine = here.weights("a")
    for name, p in here.model.named_parameters():
        if name in mine:
            assert p.grad is not None, name
            assert p.grad.any(), name
        else:
            assert p.grad is None, name


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(case: MakeCase, reentrant: bool) -> None:
    """Two compositions forwarded before one backward, the model's dropout on."""
    here = case()
    if not getattr(here.model, "supports_gradient_checkpointing", True):
        pytest.skip(f"transformers does not checkpoint a {type(here.model).__name__}")
    here.unsettle("a")
    here.adapters.train_only(["a", "b"], active=gw.Stack("a", "b"))
    here.model.train()

    rows = len(next(iter(here.zoo.inputs.values())))
    two = ("a", gw.MixedBatch(["b", *["a"] * (rows - 1)]))
    expected = here.gradients(*two)
    here.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    refusal = {
        **dict.fromkeys(HAS_A_LOSS, "has a loss of its own"),
        **dict.fromkeys(CROSSING, r"reads hidden states of other layers.*use_reentrant"),
    }.get(here.config.method)
    if reentrant and refusal is not None:
        with pytest.raises(gw.AttachError, match=refusal):
            here.gradients(*two)
        return
    here.require_gradients(here.gradients(*two), expected)


# -- how it composes ---------------------------------------------------------------------------------------------------


def test_laws_of_composition(case: MakeCase) -> None:
    here = case(torch.float64)
    here.unsettle("a")
    with torch.no_grad():
        plain, a, b = here.run(None), here.run("a"), here.run("b")
        differ(a, b)
        for same in (gw.Stack("a"), gw.Stack("a", None)):
            close(here.run(same), a, 1e-6)
        for weighed in (gw.Average("a", "a"), gw.Average("a", weights=[5])):
            if here.config.method in UNWEIGHABLE:
                with pytest.raises(gw.CompositionError, match=UNWEIGHABLE[here.config.method]):
                    here.run(weighed)
            else:
                close(here.run(weighed), a, 1e-6)
        rows = len(plain)
        alone = [a, *[plain] * (rows - 2), b]
        mixed = here.run(gw.MixedBatch(["a", *[None] * (rows - 2), "b"]))
        split = here.run(gw.BatchSplit("a", None, "b", batch_sizes=[1, rows - 2, 1]))
        twice = here.run(gw.Replicate("a", None, "b"))
        for row, expected in enumerate(alone):
            close(mixed[row], expected[row], 1e-6)
            close(split[row], expected[row], 1e-6)
        close(twice, torch.cat([a, plain, b]), 1e-6)
        stack = here.run(gw.Stack("a", "b"))
        nested = here.run(gw.BatchSplit(gw.Stack("a", "b"), "b", batch_sizes=[1, rows - 1]))
        close(nested[0], stack[0], 1e-6)
        close(nested[1:], b[1:], 1e-6)


def test_weighing_two_whose_norms_differ_is_refused(case: MakeCase) -> None:
    here = case()
    both = gw.Average("a", "b")
    if here.config.method in UNWEIGHABLE:
        with pytest.raises(gw.CompositionError, match=UNWEIGHABLE[here.config.method]):
            here.run(both)
        return
    if here.adapters.norms_of("a"):
        with pytest.raises(gw.CompositionError, match='norms="base"'):
            here.run(both)
        both = gw.Average("a", "b", norms="base")
    with torch.no_grad():
        assert torch.isfinite(here.run(both)).all()
    assert here.adapters.active is None


def test_positions_given_to_one_adapter_in_two_parts_are_all_its_own(case: MakeCase) -> None:
    """One that looks at other positions looks at all of them, and adds to its own."""
    here = case(torch.float64)
    here.unsettle("a")
    changes = {}
    if here.name == "t5":  # a Split counts the positions of both stacks
        changes["decoder_input_ids"] = here.zoo.inputs["input_ids"]
    with torch.no_grad():
        whole = here.run("a", **changes)
        parts = gw.Split("a", "a", splits=[2, whole.shape[1] - 2])
        if here.name in CONVOLUTIONAL:
            with pytest.raises(gw.CompositionError, match=r"a Split gives out positions, but at .* the channels"):
                here.run(parts)
            return
        close(here.run(parts, **changes), whole, 1e-6)
        differ(here.run(gw.Split("a", "b", splits=[2, whole.shape[1] - 2], norms="base"), **changes), whole)


def test_a_fusion_of_one_with_v_the_identity_is_that_one(case: MakeCase) -> None:
    here = case(torch.float64)
    here.unsettle("a")
    pool = gw.Fuse("a", name="f")
    if here.name in CONVOLUTIONAL:
        with pytest.raises(gw.SiteError, match=r"FusionConfig mixes the last dimension, but at .* dimension 1"):
            here.adapters.add_fusion(pool)
        return
    if here.config.method in UNWEIGHABLE:
        with pytest.raises(gw.CompositionError, match=UNWEIGHABLE[here.config.method]):
            here.adapters.add_fusion(pool)
        assert not here.adapters.fusions
        return
    here.adapters.add_fusion(pool)
    with torch.no_grad():
        for module in here.adapters.modules_of("f").values():
            if module.value_delta is not None:
                module.value_delta.zero_()
        close(here.run(pool), here.run("a"), 1e-6)


# -- where it lives ----------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_is_the_same_bit_for_bit(case: MakeCase, tmp_path: Path) -> None:
    here = case()
    here.unsettle("a")
    here.adapters.save("a", tmp_path / "a")
    there = case()
    there.adapters.remove("a")
    assert there.adapters.load(tmp_path / "a") == "a"
    there.adapters.load(tmp_path / "a", "another.name")
    assert there.adapters.config("a") == here.config
    with torch.no_grad():
        expected = here.run("a")
        differ(expected, here.run("b"))
        assert torch.equal(there.run("a"), expected)
        assert torch.equal(there.run("another.name"), expected)


def test_in_a_bfloat16_base_it_stays_float32_and_learns(case: MakeCase) -> None:
    here, reference = case(torch.bfloat16), case()
    for one in (here, reference):
        one.unsettle("a")
        one.adapters.train_only("a")
    output = here.run("a")
    assert output.dtype is torch.bfloat16
    loss(output).backward()
    for name, p in here.weights("a").items():
        assert p.dtype is torch.float32, name
        assert p.grad is not None and torch.isfinite(p.grad).all(), name
    expected = reference.run("a")
    if here.config.method in CHOOSES:
        off = (output.float() - expected).detach().abs() / expected.detach().abs().max()
        assert float(off.quantile(0.9)) <= 0.1
    else:
        close(output.float(), expected, 0.1)


def test_right_padding_never_changes_an_unpadded_position(case: MakeCase, model: str) -> None:
    if model not in TEXT:
        pytest.skip("images are not padded")
    here = case(torch.float64)
    here.unsettle("a")
    inputs: dict[str, Any] = dict(here.zoo.inputs)
    kept = inputs["attention_mask"].bool()
    more = {"input_ids": nn.functional.pad(inputs["input_ids"], (0, 3), value=9)}
    more["attention_mask"] = nn.functional.pad(inputs["attention_mask"], (0, 3), value=0)
    with torch.no_grad():
        short, long = here.run("a"), here.run("a", **more)
        other = here.run("a", **{**more, "input_ids": more["input_ids"].masked_fill(more["attention_mask"] == 0, 17)})
    if model == "t5":  # the output is the decoder's, which sees the padded encoder
        close(long, short, 1e-6)
        close(other, short, 1e-6)
    else:
        close(long[:, : kept.shape[1]][kept], short[kept], 1e-6)
        close(other[:, : kept.shape[1]][kept], short[kept], 1e-6)


def test_removing_and_detaching_leave_nothing(case: MakeCase) -> None:
    here = case()
    fresh = here.fresh()
    here.adapters.active = "a"
    here.run("a")
    here.adapters.active = None
    here.adapters.remove("a")
    assert not any("n_a" in name.split(".") for name, _ in here.model.named_modules())
    here.adapters.detach()
    assert here.model.state_dict().keys() == fresh.state_dict().keys()
    assert [n for n, _ in here.model.named_modules()] == [n for n, _ in fresh.named_modules()]
    for (name, mine), (_, other) in zip(here.model.named_modules(), fresh.named_modules(), strict=True):
        assert mine.__dict__.keys() == other.__dict__.keys(), name
        assert len(mine._forward_hooks) == len(other._forward_hooks), name
        assert len(mine._forward_pre_hooks) == len(other._forward_pre_hooks), name
    for (name, p), q in zip(here.model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert p.requires_grad == q.requires_grad, name


# -- models with batch norms -------------------------------------------------------------------------------------------


class NormedBlock(nn.Module):
    """s + W relu(V batch_norm(s))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.dense, self.out = nn.Linear(12, 20), nn.Linear(20, 12)

    def forward(self, s: Tensor) -> Tensor:
        return s + self.out(torch.relu(self.dense(self.norm(s.transpose(1, 2)).transpose(1, 2))))


class Normed(nn.Module):
    """Three such blocks behind something that stands for embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(12, 12)
        self.layers = nn.ModuleList(NormedBlock() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = layer(x)
        return x


def normed_sites() -> list[gw.Site]:
    sites = [gw.Site("layers", 0, "embedding", "enter", gw.Tap("enter", "output"), 12)]
    for n in range(3):
        tap = gw.Tap(f"layers.{n}", "input", 0)
        common = {
            "stack": "layers",
            "layer": n,
            "block": f"layers.{n}",
            "width": 12,
            "residual": tap,
            "layer_input": tap,
        }
        inside = gw.Tap(f"layers.{n}.dense", "input", 0)
        sites.append(gw.Site(kind="feed_forward", output=gw.Tap(f"layers.{n}.out", "output"), input=inside, **common))
        sites.append(gw.Site(kind="layer", output=gw.Tap(f"layers.{n}", "output"), input=tap, **common))
    return sites


@pytest.mark.parametrize("method", [m for m in METHODS if m not in OF_A_LATENT | AT_CONVOLUTIONS])
def test_a_frozen_base_in_training_does_not_move_its_batch_norms(method: str) -> None:
    base = Normed()
    x = torch.randn(4, 5, 12) + 3
    base(x)  # so that the statistics are none of the initial ones
    flags = [m.training for m in base.modules()]
    adapters = gw.attach(base, sites=normed_sites())
    adapters.add("a", gw.methods()[method](**OPTIONS.get(method, {})))
    adapters.train_only("a")
    before = {n: b.clone() for n, b in base.named_buffers() if "graftwork" not in n.split(".")}
    base.train()
    for _ in range(3):
        base(x).square().mean().backward()
    for name, buffer in before.items():
        assert torch.equal(buffer, base.get_buffer(name)), name
    adapters.detach()
    assert [m.training for m in base.modules()] == flags
    base(x)
    assert not torch.equal(base.layers[0].norm.running_mean, before["layers.0.norm.running_mean"])
