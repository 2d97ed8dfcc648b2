"""Adapters at quantised linear modules: found, trained and composed as at plain ones; what needs the weight is refused."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch

import graftwork as gw
from graftwork.weights.quantised import unquantised
from tests.support.attached import grads, lively, output
from tests.support.quantised_models import MODELS, WAYS

LIBRARIES = ("torchao_int8", "bitsandbytes_4bit", "bitsandbytes_8bit")  # gradients pass through their layers
INPUTS = {"input_ids": torch.arange(3, 19).reshape(2, 8)}
POOL = gw.Fuse("a", "b", name="f")
COMPOSITIONS = ("a", POOL, gw.Average("a", "b", "v", "p"), gw.Stack("a", "p"), gw.MixedBatch(["a", "p"]))
libraries = pytest.mark.parametrize("way", LIBRARIES)


def quantised(way: str, name: str = "llama") -> Any:
    torch.manual_seed(0)
    return WAYS[way](MODELS[name]())


def with_adapters(model: Any) -> gw.Adapters:
    """Two LoRAs and a fusion of them, a VeRA and a bottleneck, the same ones in every model."""
    adapters = gw.attach(model)
    methods = {"a": gw.LoRA(rank=2), "b": gw.LoRA(rank=3), "v": gw.VeRA(rank=4), "p": gw.Pfeiffer(bottleneck_size=4)}
    for n, (name, method) in enumerate(methods.items()):
        torch.manual_seed(n)
        adapters.add(name, method)
        lively(adapters, name, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "f")
    return adapters


@pytest.mark.parametrize("way", [*LIBRARIES, "torch_dynamic", "torchao_dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_the_projections_are_those_of_the_plain_model(way: str, name: str) -> None:
    found = gw.attach(quantised(way, name)).sites.projections
    plain = gw.attach(MODELS[name]()).sites.projections
    assert found == plain


@libraries
def test_each_of_them_learns(way: str) -> None:
    model = quantised(way)
    adapters = with_adapters(model)
    for what in ("a", "v", "p", POOL):
        adapters.train_only(what)
        model.train()
        # a bias of all keys alike is nothing to a softmax
        learning = [p for n, p in model.named_parameters() if p.requires_grad and not n.endswith("key_bias")]
        model(**INPUTS, labels=INPUTS["input_ids"]).loss.backward()
        assert learning and all(p.grad is not None and p.grad.any() for p in learning)
        model.zero_grad()


@pytest.mark.parametrize("way", ["torchao_int8", "bitsandbytes_4bit"])
def test_they_compute_and_learn_what_they_do_over_the_rounded_weights(way: str) -> None:
    """Weights alone are rounded here, so that a plain model with these weights is the same function."""
    model, plain = quantised(way), unquantised(quantised(way))
    one, other = with_adapters(model), with_adapters(plain)
    for what in ("a", POOL):
        for adapters in (one, other):
            adapters.train_only(what)
            adapters.model.train()
            adapters.model(**INPUTS, labels=INPUTS["input_ids"]).loss.backward()
        expected = grads(plain)
        for name, found in grads(model).items():
            torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-5)
    for composition in COMPOSITIONS:
        for adapters in (one, other):
            adapters.active = composition  # in train mode: in eval mode bitsandbytes computes in fewer bits
        torch.testing.assert_close(output(model, INPUTS), output(plain, INPUTS), rtol=1e-3, atol=1e-4)


@libraries
def test_a_lora_of_peft_becomes_ours_and_goes_back(way: str, tmp_path: Any) -> None:
    model = quantised(way)
    adapters = gw.attach(model)
    adapters.add("x", peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    assert isinstance(adapters.config("x"), gw.LoRA) and len(adapters.modules_of("x")) == 4
    lively(adapters, "x")
    adapters.save("x", tmp_path / "x", format="peft")
    adapters.load(tmp_path / "x", "y")
    outputs = []
    for composition in (None, "x", "y"):
        with adapters.using(composition):
            outputs.append(output(model, INPUTS))
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    torch.testing.assert_close(outputs[1], outputs[2])


@libraries
def test_what_needs_the_weight_is_refused_by_name(way: str) -> None:
    adapters = with_adapters(quantised(way))
    with pytest.raises(gw.SiteError, match=r"DoRA needs the weight of layers\.0\.self_attn\.q_proj"):
        adapters.add("d", gw.DoRA(rank=2))
    assert "d" not in adapters.names
    with pytest.raises(gw.AttachError, match=r"merge_into_base: the weight of 'model\.layers\.0\.self_attn\.q_proj'"):
        adapters.merge_into_base("a")
    assert adapters.collapse(gw.Average("a", "b"), "c").error == 0  # needs the adapters' weights alone
