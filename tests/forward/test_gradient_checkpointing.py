"""Gradient checkpointing: a recomputed block meets the composition that it was run with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

import graftwork as gw
from tests.support.attached import (
    assert_close,
    assert_same,
    attached,
    checkpoint,
    grads,
    lively,
    snapshot,
)
from tests.zoo.models import build, main_output

MODELS = ("bert", "llama_causal", "t5_generation", "gpt2", "vit")
POOL = gw.Fuse("a", "b", name="ab")
COMPOSITIONS: dict[str, Any] = {
    "one": "a",
    "stack": gw.Stack("a", "b"),
    "average": gw.Average("a", "b"),
    "fuse": POOL,
    "rows": gw.MixedBatch(["a", None, "b"]),
    "stack by rows": gw.Stack("n", gw.BatchSplit(gw.Stack("a", "b"), "b", batch_sizes=[1, 2])),
    "own norms": "h",
    "norms by rows": gw.MixedBatch(["h", "a", "k"]),
    "layer": "layer",
    "layer input": "deep",
    "all": gw.Stack("h", "layer", POOL),
}


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def setup(name: str) -> tuple[Any, gw.Adapters, dict[str, Tensor]]:
    zoo = build(name, torch.float64)
    without_dropout(zoo.model)
    adapters = attached(zoo)
    configs: dict[str, gw.AdapterConfig] = {
        "a": gw.Pfeiffer(),
        "b": gw.Pfeiffer(),
        "n": gw.Parallel(),
        "h": gw.Houlsby(),
        "k": gw.Houlsby(),
        "layer": gw.BapnaFirat(),
        "deep": gw.Bottleneck(sites=("feed_forward",), reads="layer_input"),
    }
    for n, (key, config) in enumerate(configs.items()):
        adapters.add(key, config)
        lively(adapters, key, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    inputs = {**zoo.inputs, "use_cache": False} if hasattr(zoo.model.config, "use_cache") else zoo.inputs
    if "pixel_values" in inputs:
        inputs = {"pixel_values": torch.cat([inputs["pixel_values"], inputs["pixel_values"].flip(0)])[:3]}
    zoo.model.double().train()
    return zoo.model, adapters, inputs


def loss(model: nn.Module, inputs: dict[str, Any], weight: float = 1.0) -> Tensor:
    out = main_output(model(**inputs))
    return weight * (out * torch.linspace(-1, 1, out.shape[-1], dtype=out.dtype)).sum(-1).square().mean()


CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # T5 takes its norms in float32 whatever the dtype
EVERYTHING = ("a", "b", "n", "h", "k", "layer", "deep", "ab")


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_gradients_as_without(name: str, reentrant: bool) -> None:
    model, adapters, inputs = setup(name)
    plain = {}
    adapters.train_only(EVERYTHING, active=None)
    for key, composition in COMPOSITIONS.items():
        with adapters.using(composition):
            loss(model, inputs).backward()
        plain[key] = grads(model)
        assert plain[key]
    checkpoint(model, reentrant)
    for key, composition in COMPOSITIONS.items():
        with adapters.using(composition):
            value = loss(model, inputs)
        value.backward()  # `using` has ended
        assert_close(plain[key], grads(model), **CLOSE)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("name", MODELS)
def test_two_compositions_before_one_backward(name: str, reentrant: bool) -> None:
    model, adapters, inputs = setup(name)
    adapters.train_only(EVERYTHING, active=None)

    def both() -> Tensor:
        with adapters.using("a"):
            first = loss(model, inputs)
        with adapters.using(gw.Stack("h", POOL)):
            second = loss(model, inputs, 2.0)
        return first + second

    both().backward()
    plain = grads(model)
    checkpoint(model, reentrant)
    value = both()
    with adapters.using("b"):  # something else altogether is in use when the blocks are recomputed
        value.backward()
    assert_close(plain, grads(model), **CLOSE)
    assert adapters.runtime.frame is None


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_recomputed_on_another_thread(reentrant: bool) -> None:
    model, adapters, inputs = setup("bert")
    adapters.train_only(EVERYTHING, active="b")
    with adapters.using(gw.Stack("h", POOL)):
        loss(model, inputs).backward()
    plain = grads(model)
    checkpoint(model, reentrant)
    with adapters.using(gw.Stack("h", POOL)):
        value = loss(model, inputs)
    thread = threading.Thread(target=value.backward)
    thread.start()
    thread.join()
    assert_close(plain, grads(model), **CLOSE)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_a_head_and_its_loss(reentrant: bool) -> None:
    zoo = build("bert_classifier")
    without_dropout(zoo.model)
    adapters = gw.attach(zoo.model)
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer())
    adapters.add_head("a", 5)
    for name in ("a", "b"):
        lively(adapters, name)
    zoo.model.train()
    inputs = {**zoo.inputs, "labels": torch.tensor([0, 2, 1])}
    adapters.train_only("a")
    zoo.model(**inputs).loss.backward()
    plain = grads(zoo.model)
    assert any("heads" in key for key in plain)
    checkpoint(zoo.model, reentrant)
    zoo.model(**inputs).loss.backward()
    assert_close(plain, grads(zoo.model), **CLOSE)


def test_detach_gives_the_functions_back() -> None:
    zoo = build("bert")
    checkpoint(zoo.model)
    zoo.model.train()
    before = snapshot(zoo.model)
    adapters = attached(zoo)
    adapters.add("a", gw.Pfeiffer())
    adapters.train_only("a")
    loss(zoo.model, zoo.inputs).backward()
    checkpoint(zoo.model, True)  # turned on again meanwhile
    loss(zoo.model, zoo.inputs).backward()
    adapters.detach()
    after = snapshot(zoo.model)
    assert "graftwork" not in repr([vars(m).get("_gradient_checkpointing_func") for m in zoo.model.modules()])
    assert_same(
        {k: v for k, v in before.items() if k not in ("functions", "hooks")}, after
    )  # transformers adds hooks too


class Owner(nn.Module):
    """A model that checkpoints its layers by itself."""

    def __init__(self, layers: nn.ModuleList, bind: Callable[[Any], Any] | None, reentrant: bool) -> None:
        super().__init__()
        self.layers = layers
        self.bind = bind
        self.reentrant = reentrant
        self.on = False

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layers:
            if self.on:
                run = layer if self.bind is None else self.bind(layer)
                hidden = torch_checkpoint(run, hidden, use_reentrant=self.reentrant)
            else:
                hidden = layer(hidden)
        return hidden


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mlp(self.norm(hidden))


def owner(reentrant: bool) -> tuple[Owner, gw.Adapters, Tensor]:
    torch.manual_seed(0)
    model = Owner(nn.ModuleList(Block() for _ in range(3)), None, reentrant)
    adapters = gw.attach(model, sites=gw.discover(model, (torch.randn(2, 3, 8),)))
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4))
        lively(adapters, name)
    adapters.train_only(["a", "b"], active=None)
    return model, adapters, torch.randn(2, 3, 8)


@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_checkpointing_of_the_users_own(reentrant: bool) -> None:
    model, adapters, x = owner(reentrant)
    x.requires_grad_(reentrant)
    with adapters.using(gw.Stack("a", "b")):
        model(x).square().sum().backward()
    plain = grads(model)
    model.on = True
    with adapters.using(gw.Stack("a", "b")):
        value = model(x).square().sum()
    with pytest.raises(gw.AttachError if reentrant else Exception, match=r"bind|number of tensors"):
        value.backward()  # not bound: never computed without it in silence
    adapters.active = "b"
    with adapters.using(gw.Stack("a", "b")):
        value = model(x).square().sum()
    with pytest.raises(gw.AttachError, match=r"adapters\.bind\(fn\)"):
        value.backward()
    adapters.active = None
    model.zero_grad()
    model.bind = adapters.bind
    with adapters.using(gw.Stack("a", "b")):
        value = model(x).square().sum()
    value.backward()
    assert_close(plain, grads(model))
    model.requires_grad_(True)
    model(x).square().sum().backward()  # the plain model, under the same checkpointing
    plain = grads(model)
    model.on = False
    model(x).square().sum().backward()
    assert_close(plain, grads(model))
    assert adapters.bind(model.layers[0]) is model.layers[0]  # nothing is active
    with adapters.using("a"), pytest.raises(gw.AttachError, match="inside the model's forward"):
        adapters.bind(model.layers[0])
