"""DoRA, (IA)³ and VeRA: their formulas, and what peft computes."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.methods.test_lora import TARGETS, attached, compare_and_go_back, with_peft
from tests.support.interpreter import Lab, close, unsettle
from tests.zoo.models import build, main_output


def seen_at(model: Any, path: str, seen: dict[str, Tensor]) -> nn.Module:
    module: nn.Module = model.get_submodule(path)
    module.register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    return module


def test_dora_is_its_formula() -> None:
    """y = m (W + s B A) x / ‖W + s B A‖ + c, row by row."""
    lab, seen = Lab("bert"), dict[str, Tensor]()
    lab.add("x", gw.DoRA(rank=3, alpha=6, targets=["layer.0.attention.self.query"]))
    ((key, module),) = lab.adapters.modules_of("x").items()
    query = seen_at(lab.model, key, seen)
    with torch.no_grad():
        lab.run("x")
        weight = query.weight + 6 / 3 * module.up @ module.down
        weight = module.magnitude[:, None] * weight / weight.norm(dim=1, keepdim=True)
        close(seen["y"], seen["x"] @ weight.T + query.bias, 1e-12)


@pytest.mark.parametrize("at_input", [False, True], ids=["output", "input"])
def test_ia3_is_its_formula(at_input: bool) -> None:
    """l ⊙ (W x + c), or W (l ⊙ x) + c."""
    lab, seen = Lab("bert"), dict[str, Tensor]()
    key = "encoder.layer.1.output.dense"
    lab.add("x", gw.IA3(targets=["layer.1.output.dense"], feedforward=["output.dense"] if at_input else []))
    ((at, module),) = lab.adapters.modules_of("x").items()
    dense, plain = seen_at(lab.model, key, seen), lab.plain.get_submodule(key)
    assert (at, len(module.factors)) == (key, dense.in_features if at_input else dense.out_features)
    with torch.no_grad():
        lab.run("x")
        x, factors = seen["x"], module.factors
        close(seen["y"], plain(factors * x) if at_input else factors * plain(x), 1e-12)


def test_vera_is_its_formula() -> None:
    """λ_b (B (λ_d (A x))), A and B cut to the module's sizes."""
    lab, seen = Lab("bert"), dict[str, Tensor]()
    lab.add("x", gw.VeRA(rank=5, targets=["layer.0.intermediate.dense", "layer.0.output.dense"]))
    matrices: Any = lab.adapters.shared_of("x")
    assert (matrices.a.shape, matrices.b.shape) == ((5, 48), (48, 5))
    key = "encoder.layer.0.intermediate.dense"
    module = lab.adapters.modules_of("x")[key]
    dense, plain = seen_at(lab.model, key, seen), lab.plain.get_submodule(key)
    assert dense.in_features == 32
    with torch.no_grad():
        lab.run("x")
        x = seen["x"]
        inner = module.lambda_d * (x @ matrices.a[:, :32].T)
        close(seen["y"], plain(x) + module.lambda_b * (inner @ matrices.b[:48].T), 1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_dora_is_what_peft_computes(name: str) -> None:
    zoo, adapters = attached(name, torch.float64)
    options = {"target_modules": TARGETS[name], "exclude_modules": ["pooler.dense"]}
    config = peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, fan_in_fan_out=name == "gpt2", **options)
    adapters.add("x", config)
    assert isinstance(adapters.config("x"), gw.DoRA)
    unsettle([*adapters.modules_of("x").values()], 1)
    for module in adapters.modules_of("x").values():
        module.double()
    theirs = with_peft(name, config, adapters, torch.float64)
    layers = {adapters.sites[k].output.module: m for k, m in adapters.modules_of("x").items()}
    for path, module in layers.items():
        layer = theirs.base_model.model.get_submodule(path)
        with torch.no_grad():
            layer.lora_magnitude_vector["default"].weight.copy_(module.magnitude)
    adapters.train_only("x")
    compare_and_go_back(zoo, theirs)
    for path, module in layers.items():
        layer = theirs.base_model.model.get_submodule(path)
        close(module.down.grad, layer.lora_A["default"].weight.grad, 1e-10)
        close(module.up.grad, layer.lora_B["default"].weight.grad, 1e-10)
        close(module.magnitude.grad, layer.lora_magnitude_vector["default"].weight.grad.flatten(), 1e-10)


IA3 = {
    "bert": {
        "target_modules": ["key", "output.dense", "dense"],
        "feedforward_modules": ["dense"],
        "exclude_modules": ["pooler.dense"],
    },
    "gpt2": {},  # peft's own table
    "llama": {"target_modules": r".*(k|v|down)_proj", "feedforward_modules": r".*down_proj"},
    "t5": {},
}


@pytest.mark.parametrize("name", IA3)
def test_ia3_is_what_peft_computes(name: str) -> None:
    zoo, adapters = attached(name, torch.float64)
    config = peft.IA3Config(fan_in_fan_out=name == "gpt2", **IA3[name])
    adapters.add("x", config)
    assert isinstance(adapters.config("x"), gw.IA3)
    unsettle([*adapters.modules_of("x").values()], 1)
    theirs = peft.get_peft_model(build(name, torch.float64).model, config, autocast_adapter_dtype=False).eval()
    layers = {n: m for n, m in theirs.base_model.model.named_modules() if "default" in getattr(m, "ia3_l", ())}
    ours = {adapters.sites[key].output.module: m.double() for key, m in adapters.modules_of("x").items()}
    assert layers.keys() == ours.keys()
    with torch.no_grad():
        for path, layer in layers.items():
            layer.ia3_l["default"].copy_(ours[path].factors.view_as(layer.ia3_l["default"]))
    adapters.train_only("x")
    compare_and_go_back(zoo, theirs)
    for path, layer in layers.items():
        close(ours[path].factors.grad, layer.ia3_l["default"].grad.flatten(), 1e-10)


def test_vera_is_what_peft_computes() -> None:
    zoo, adapters = attached("bert", torch.float64)
    adapters.add("x", gw.VeRA(rank=6, targets=["query", "intermediate.dense"], dtype="float64"))
    unsettle([*adapters.modules_of("x").values()], 1)
    config = peft.VeraConfig(r=6, target_modules=["query", "intermediate.dense"])
    theirs = peft.get_peft_model(build("bert", torch.float64).model, config).eval().double()
    matrices: Any = adapters.shared_of("x")
    with torch.no_grad():
        for key, module in adapters.modules_of("x").items():
            layer = theirs.base_model.model.get_submodule(key)
            layer.vera_A["default"].copy_(matrices.a)
            layer.vera_B["default"].copy_(matrices.b)
            layer.vera_lambda_d["default"].copy_(module.lambda_d)
            layer.vera_lambda_b["default"].copy_(module.lambda_b)
        with adapters.using("x"):
            close(main_output(zoo.model(**zoo.inputs)), main_output(theirs(**zoo.inputs)), 1e-10)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (gw.DoRA(rank=2, targets=["query"]), 2 * ((32 + 32) * 2 + 32)),
        (gw.IA3(targets=["query", "output.dense"], feedforward=["layer.0.output.dense"]), 2 * 32 + 32 * 2 + 48 + 32),
        (gw.VeRA(rank=7, targets=["query"]), 2 * (7 + 32)),
    ],
    ids=["dora", "ia3", "vera"],
)
def test_they_have_as_many_trained_weights(config: Any, count: int) -> None:
    _, adapters = attached("bert")
    adapters.add("x", config)
    adapters.train_only("x")
    assert sum(p.numel() for p in adapters.trainable_parameters()) == count


def test_dora_needs_weights_that_can_be_read() -> None:
    model = torch.ao.quantization.quantize_dynamic(build("bert").model, {nn.Linear}, dtype=torch.qint8)
    adapters = gw.attach(model)
    with pytest.raises(gw.SiteError, match="no plain tensor of floats"):
        adapters.add("x", gw.DoRA(targets=["query"]))
    adapters.add("x", gw.LoRA(targets=["query"]))
