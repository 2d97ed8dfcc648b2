"""Hyperformer: T5 by its formula, the starts, which tensors there are, and refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.layers.hypernetwork import HyperModule, Hypernetworks
from tests.methods.test_bottleneck import NoPadding, place
from tests.methods.test_compacter import branches
from tests.support.interpreter import close, unsettle
from tests.zoo.models import build as zoo_model
from tests.zoo.models import main_output

TASKS = ("mnli", "qqp", "rte")
BOTH = {"hyperformer": gw.Hyperformer, "hyperformer++": gw.HyperformerPlusPlus}


def module_of(config: gw.Hyperformer, width: int = 64, **at: Any) -> HyperModule:
    here = place(width=width, **at)
    module = config.build(here, config.shared([here]))
    assert isinstance(module, HyperModule)
    return module


# -- the formula -------------------------------------------------------------------------------------------------------


def affine(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def normed(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * gain + bias


def made(adapters: gw.Adapters, key: str, task: int) -> dict[str, Tensor]:
    """The six weights of one task's adapter at one site, from the tensors of a state dict alone."""
    shared = dict(adapters.shared_of("a").state_dict())  # type: ignore[union-attr]
    own = dict(adapters.modules_of("a")[key].state_dict())
    stack, layer, kind = ("encoder", "decoder").index(key.split(".")[0]), int(key.split(".")[2]), key.rpartition(".")[2]
    w = {n.removeprefix(f"conditions.{stack}."): t for n, t in shared.items() if n.startswith(f"conditions.{stack}.")}
    z = [shared[f"own.{task}.vector"]]
    if not own:
        z += [w["layer_vectors"][layer], w["kind_vectors"][("attention", "feed_forward").index(kind)]]
    condition = affine(w, "second", affine(w, "first", torch.cat(z)).clamp(min=0))
    condition = normed(condition, w["norm.weight"], w["norm.bias"], 1e-6)
    generators = {n.partition("to_weight.")[2]: t for n, t in (own or w).items() if "to_weight" in n}
    return {n: affine(generators, n, condition) for n in ("down", "down_bias", "up", "up_bias", "gain", "bias")}


def delta(w: dict[str, Tensor], h: Tensor) -> Tensor:
    """γ ⊙ norm(U gelu(D h + b_D) + b_U) + β."""
    width = h.shape[-1]
    raw = h @ w["down"].reshape(-1, width).T + w["down_bias"]
    features = 0.5 * raw * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (raw + 0.044715 * raw**3)))
    return normed(features @ w["up"].reshape(width, -1).T + w["up_bias"], w["gain"], w["bias"], 1e-5)


def by_the_formula(plain: nn.Module, adapters: gw.Adapters, task: int, inputs: dict[str, Any]) -> Tensor:
    """T5 with ``y + A(y)`` behind self-attention and feed-forward, and the adapter's norms written into a copy of it."""
    model: Any = copy.deepcopy(plain)
    for path, norm in adapters.norms_of("a").items():
        model.get_submodule(path).load_state_dict(norm.state_dict())

    def added(key: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            y = output[0] if isinstance(output, tuple) else output
            y = y + delta(made(adapters, key, task), y)
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return hook

    for key, branch, _, _ in branches(model):
        branch.register_forward_hook(added(key))
    return main_output(model(**inputs))


@pytest.mark.parametrize("name", BOTH)
def test_t5_equals_the_formula_for_each_task(name: str) -> None:
    zoo = zoo_model("t5", torch.float64)
    plain = copy.deepcopy(zoo.model)
    adapters = gw.attach(zoo.model)
    adapters.add("a", BOTH[name](tasks=TASKS, bottleneck_size=8, dtype="float64"))
    shared = adapters.shared_of("a")
    assert shared is not None
    unsettle([*adapters.modules_of("a").values(), *adapters.norms_of("a").values(), shared], 5, 0.1)
    assert set(adapters.modules_of("a")) == {key for key, *_ in branches(plain)}
    found = []
    for n, task in enumerate(TASKS):
        for learning in (False, True):  # what is kept, and what is made in the graph
            if learning:
                adapters.train_only("a", active=f"a:{task}")
            else:
                adapters.active = f"a:{task}"
            actual = main_output(zoo.model(**zoo.inputs))
            close(actual, by_the_formula(plain, adapters, n, dict(zoo.inputs)))
        found.append(actual.detach())
        adapters.train_only(None, active=None)  # nothing learns
    assert min(float((a - b).abs().max()) for a, b in ((found[0], found[1]), (found[1], found[2]))) > 1e-3


# -- starts and tensors ------------------------------------------------------------------------------------------------


def test_the_made_gain_starts_around_zero_and_keeps_the_adapter_small() -> None:
    torch.manual_seed(0)
    module = module_of(gw.HyperformerPlusPlus(), width=768)
    made_here = module.make("task")
    assert made_here.down.shape == (24, 768)
    assert made_here.up.shape == (768, 24)
    assert float(made_here.gain.detach().mean()) == pytest.approx(0.0, abs=0.01)
    assert float(made_here.gain.detach().std()) == pytest.approx(0.08, rel=0.15)  # 0.01 √64
    y = torch.randn(2, 5, 768)
    assert float(module(y, NoPadding()).detach().std()) < 0.15


def test_matrices_start_at_a_hundredth_biases_at_zero_embeddings_at_one() -> None:
    torch.manual_seed(0)
    shared: Any = module_of(gw.HyperformerPlusPlus(), width=768).shared
    for name, p in shared.named_parameters():
        if "vector" in name:
            assert float(p.detach().std()) == pytest.approx(1.0, rel=0.35)
        elif name.endswith("norm.weight"):
            assert p.eq(1).all()
        elif name.endswith("bias"):
            assert not p.any(), name
        else:
            assert float(p.detach().std()) == pytest.approx(0.01, rel=0.05), name


def test_what_is_shared_and_what_a_site_has() -> None:
    adapters = gw.attach(zoo_model("t5").model)
    adapters.add("one", gw.HyperformerPlusPlus(tasks=TASKS))
    adapters.add("many", gw.Hyperformer(tasks=TASKS))
    one, many = adapters.shared_of("one"), adapters.shared_of("many")
    assert isinstance(one, Hypernetworks) and isinstance(many, Hypernetworks)
    assert len(one.conditions) == len(many.conditions) == 2  # encoder and decoder
    assert [sum(p.numel() for p in o.parameters()) for o in (*one.own, *many.own)] == [64] * 6
    assert not any([*m.parameters()] for m in adapters.modules_of("one").values())
    assert all([*m.parameters()] for m in adapters.modules_of("many").values())
    for condition in many.conditions:
        assert [n for n, _ in condition.named_parameters() if "vector" in n or "generators" in n] == []


def test_a_left_out_layer_has_no_adapter_and_no_embedding() -> None:
    adapters = gw.attach(zoo_model("bert").model)
    adapters.add("a", gw.HyperformerPlusPlus(leave_out=[0]))
    shared: Any = adapters.shared_of("a")
    assert not any(".0." in key for key in adapters.modules_of("a"))
    assert 0 not in shared.conditions[0].layers


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction_factor": 16, "bottleneck_size": 4}, "say the same thing twice"),
        ({"reduction_factor": {"0": 4}}, "reduction_factor is"),
        ({"bottleneck_size": 0}, "bottleneck_size is 0"),
        ({"embedding_size": 0}, "embedding_size is 0"),
        ({"hidden_size": 1.5}, "hidden_size is 1.5"),
        ({"activation": "gellu"}, "activation is 'gellu'"),
        ({"init": "houlsby"}, "init is 'houlsby'"),
        ({"sites": ("nowhere",)}, "sites is"),
        ({"reads": "everything"}, "reads is"),
        ({"task": ("a",)}, "no option 'task'; did you mean 'tasks'"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=said):
        gw.HyperformerPlusPlus(**options)


def test_one_generator_makes_adapters_of_one_width() -> None:
    places = [place(width=64), place(width=32, layer=1)]
    with pytest.raises(gw.ConfigError, match=r"differ in width \(64 at .*, 32 at .*use\s+Hyperformer, which has one"):
        gw.HyperformerPlusPlus().shared(places)
    assert gw.Hyperformer(bottleneck_size=4).shared(places) is not None


def test_a_module_is_not_made_without_its_hypernetwork() -> None:
    with pytest.raises(gw.ConfigError, match=r"Hyperformer: build\(place, None\) lacks the hypernetwork"):
        gw.Hyperformer().build(place())
