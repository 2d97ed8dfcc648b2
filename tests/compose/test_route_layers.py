"""Gates over LoRAs: one for a whole layer, those that need no training, and those that were each trained alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import graftwork as gw
from tests.support import formulas as formula
from tests.support.interpreter import Lab, close, sites_of
from tests.zoo.models import build

TARGETS = ("query", "output.dense", "c_attn", "c_fc")


@pytest.fixture(params=["bert", "gpt2"])
def lab(request: pytest.FixtureRequest) -> Lab:
    made = Lab(request.param)
    for n in range(3):
        made.add(f"lora{n}", gw.LoRA(rank=2 + n, targets=TARGETS))
    made.add("p", gw.Pfeiffer(bottleneck_size=3))
    return made


def test_a_gate_of_a_layer_has_its_weights_once(lab: Lab) -> None:
    block = gw.Route("lora0", "p", "lora1", name="r")
    lab.add_fusion(block, scope="layer", top_k=3)
    gates = lab.adapters.shared_of("r")
    assert len(list(gates.children())) == 2  # layers
    assert lab.adapters.summary().row("r").weights == 2 * 2 * 3 * 32
    assert not [p for module in lab.adapters.modules_of("r").values() for p in module.parameters()]


def test_a_lora_and_a_bottleneck_are_routed_against_each_other(lab: Lab) -> None:
    """With all gates at zero each of two children has one half, wherever in the layer it is."""
    block = gw.Route("lora0", "p", name="r")
    lab.add_fusion(block, scope="layer")
    with torch.no_grad():
        assert not torch.equal(lab.run(block), lab.run(gw.Average("lora0", "p")))
        for gate in lab.adapters.shared_of("r").children():
            gate.weight.zero_()
        close(lab.run(block), lab.run(gw.Average("lora0", "p")), 1e-10)
    with pytest.raises(gw.CompositionError, match="share no site"):
        lab.adapters.add_fusion(gw.Route("lora0", "p", name="by site"))


def test_every_site_of_a_layer_has_the_same_weights(lab: Lab) -> None:
    block = gw.Route("lora0", "lora1", "p", name="r")
    lab.add_fusion(block, scope="layer", top_k=2)
    lab.adapters.active = "r"
    seen = lab.adapters.fusion_weights(**lab.inputs)["r"]
    layers: dict[str, list[torch.Tensor]] = {}
    for key, weights in seen.items():
        layers.setdefault(next(part for part in key.split(".") if part.isdigit()), []).append(weights)
    assert len(layers) == 2
    for alike in layers.values():
        assert len(alike) > 1
        assert all(torch.equal(alike[0], other) for other in alike)
    first, second = (alike[0] for alike in layers.values())
    assert not torch.equal(first, second)


def test_noise_is_drawn_once_a_layer_and_its_losses_count_once(lab: Lab) -> None:
    block = gw.Route("lora0", "lora1", name="r")
    lab.add_fusion(block, scope="layer", top_k=1)
    lab.adapters.train_only("r")
    lab.model.train()
    lab.model.config.use_cache = False
    lab.model(**lab.inputs)
    assert len(lab.adapters.runtime.losses) == 2  # layers
    lab.adapters.auxiliary_loss().backward()
    assert all(gate.weight.grad is not None for gate in lab.adapters.shared_of("r").children())


def test_it_is_saved_and_loaded(lab: Lab, tmp_path: Path) -> None:
    block = gw.Route("lora0", "p", name="r")
    lab.add_fusion(block, scope="layer")
    with torch.no_grad():
        expected = lab.run(block)
    lab.adapters.save(block, tmp_path / "r", members=True)
    zoo = build("bert" if "bert" in type(lab.model).__name__.lower() else "gpt2", torch.float64)
    other = gw.attach(zoo.model, sites=sites_of("bert" if "Bert" in type(lab.model).__name__ else "gpt2"))
    other.load(tmp_path / "r")
    other.active = "r"
    with torch.no_grad():
        close(zoo.model(**lab.inputs).last_hidden_state, expected, 1e-12)


def test_arrow_is_the_formula(lab: Lab) -> None:
    """logit_n = |v_n · x|, v_n the first right singular vector of B_n A_n; the softmax over the largest."""
    names = ("lora0", "lora1", "lora2")
    lab.add_fusion(gw.Route(*names, name="arrow"), gate="arrow", top_k=2)
    key = next(key for key in lab.adapters.modules_of("lora0") if key.endswith(("query", "c_attn")))
    modules = [lab.adapters.modules_of(name)[key] for name in names]
    seen: dict[str, torch.Tensor] = {}
    lab.model.get_submodule(key).register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    plain = lab.plain.get_submodule(key)
    with torch.no_grad():
        lab.run(gw.Route(*names, name="arrow"))
        x = seen["x"]
        logits = [(x @ torch.linalg.svd(m.up @ m.down).Vh[0]).abs() for m in modules]
        parts = [m.scale * (x @ m.down.T) @ m.up.T for m in modules]
        close(seen["y"], plain(x) + formula.route(torch.stack(logits, -1), 2, parts), 1e-9)


def test_arrow_needs_no_training_and_is_for_loras(lab: Lab) -> None:
    lab.add_fusion(gw.Route("lora0", "lora1", name="arrow"), gate="arrow")
    assert lab.adapters.summary().row("arrow").weights == 0
    with pytest.raises(gw.CompositionError, match="'p' is no LoRA"):
        lab.add("p2", gw.Pfeiffer())
        lab.adapters.add_fusion(gw.Route("p", "p2", name="wrong"), gw.RouteConfig(gate="arrow"))
    with pytest.raises(gw.ConfigError, match="scope='site'"):
        gw.RouteConfig(gate="arrow", scope="layer")


# -- PHATGOOSE ---------------------------------------------------------------------------------------------------------


def with_gates(lab: Lab, *names: str) -> list[str]:
    for n, name in enumerate(names):
        lab.add_fusion(gw.Route(name, name=f"gate_{name}"), gate="phatgoose", top_k=1)
        draw = torch.Generator().manual_seed(n)
        with torch.no_grad():
            for module in lab.adapters.modules_of(f"gate_{name}").values():
                module.gate.weight.copy_(torch.randn(module.gate.weight.shape, generator=draw) / 3)
    return [f"gate_{name}" for name in names]


def test_a_gate_alone_weighs_its_adapter_by_a_sigmoid(lab: Lab) -> None:
    with_gates(lab, "lora0")
    ((key, module), *_) = lab.adapters.modules_of("lora0").items()
    vector = lab.adapters.modules_of("gate_lora0")[key].gate.weight[0]
    seen: dict[str, torch.Tensor] = {}
    lab.model.get_submodule(key).register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    with torch.no_grad():
        lab.run(gw.Route("lora0", name="gate_lora0"))
        x = seen["x"]
        added = module.scale * (x @ module.down.T) @ module.up.T
        close(seen["y"], lab.plain.get_submodule(key)(x) + torch.sigmoid(x @ vector)[..., None] * added, 1e-10)


def test_joined_gates_are_the_formula(lab: Lab) -> None:
    """logit = the product of standardised v and x over √d; the softmax over the two largest."""
    names = ("lora0", "lora1", "lora2")
    block = lab.adapters.join_gates("r", with_gates(lab, *names), top_k=2)
    key = next(key for key in lab.adapters.modules_of("lora0") if key.endswith(("query", "c_attn")))
    modules = [lab.adapters.modules_of(name)[key] for name in names]
    vectors = [lab.adapters.modules_of(f"gate_{name}")[key].gate.weight[0] for name in names]
    seen: dict[str, torch.Tensor] = {}
    lab.model.get_submodule(key).register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))

    def standard(value: torch.Tensor) -> torch.Tensor:
        return (value - value.mean(-1, keepdim=True)) / value.std(-1, correction=0, keepdim=True)

    with torch.no_grad():
        lab.run(block)
        x = seen["x"]
        logits = [(standard(x) * standard(v)).sum(-1) / x.shape[-1] ** 0.5 for v in vectors]
        parts = [m.scale * (x @ m.down.T) @ m.up.T for m in modules]
        close(seen["y"], lab.plain.get_submodule(key)(x) + formula.route(torch.stack(logits, -1), 2, parts), 1e-9)


def test_a_gate_is_trained_with_its_adapter_alone(lab: Lab) -> None:
    with_gates(lab, "lora0")
    lab.adapters.train_only("gate_lora0")
    lab.model.config.use_cache = False
    lab.model(**lab.inputs).last_hidden_state.square().mean().backward()
    moved = {name for name, p in lab.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all("gate_lora0" in name for name in moved)


def test_only_gates_that_were_trained_alone_are_joined(lab: Lab) -> None:
    (gate,) = with_gates(lab, "lora0")
    lab.add_fusion(gw.Route("lora0", "lora1", name="learned"))
    for of, says in ((["learned", gate], "'learned' is"), ([gate], "not two gates"), ([gate, "gate_x"], "gate_x")):
        with pytest.raises(gw.GraftworkError, match=says):
            lab.adapters.join_gates("r", of)
    assert "r" not in lab.adapters.fusions
