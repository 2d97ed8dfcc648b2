"""LoRA at projections: what peft computes, wherever it is put; hooks where an adapter is and nowhere else."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.forward.ports import PORTS
from tests.support.interpreter import close, sites_of, unsettle
from tests.zoo.models import build, clone_inputs, main_output

TARGETS: dict[str, list[str]] = {
    "bert": ["query", "output.dense"],
    "gpt2": ["c_attn", "c_fc"],
    "llama": ["q_proj", "down_proj"],
    "t5": ["q", "wo"],
    "vit": ["query", "value"] if "query" in str(sites_of("vit").projection_names) else ["q_proj", "v_proj"],
}


def attached(name: str, dtype: torch.dtype = torch.float32) -> tuple[Any, gw.Adapters]:
    zoo = build(name, dtype)
    return zoo, gw.attach(zoo.model, sites=sites_of(name))


def with_peft(name: str, config: Any, adapters: gw.Adapters, dtype: torch.dtype) -> Any:
    """A model with peft's LoRA, its matrices those of our adapter ``"x"``."""
    model = peft.get_peft_model(build(name, dtype).model, config, autocast_adapter_dtype=False).eval()
    layers = {n: m for n, m in model.base_model.model.named_modules() if "default" in getattr(m, "lora_A", ())}
    ours = {adapters.sites[key].output.module: module for key, module in adapters.modules_of("x").items()}
    assert layers.keys() == ours.keys()
    with torch.no_grad():
        for path, layer in layers.items():
            layer.lora_A["default"].weight.copy_(ours[path].down)
            layer.lora_B["default"].weight.copy_(ours[path].up)
    return model


def compare_and_go_back(zoo: Any, theirs: Any) -> None:
    """Our output equals that of peft's model to 1e-10, and both losses go back."""
    one = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    other = main_output(theirs(**clone_inputs(zoo.inputs)))
    close(one, other, 1e-10)
    one.square().sum().backward()
    other.square().sum().backward()


@pytest.mark.parametrize("name", TARGETS)
def test_outputs_and_gradients_are_those_of_peft(name: str) -> None:
    zoo, adapters = attached(name, torch.float64)
    options = {"target_modules": TARGETS[name], "exclude_modules": ["pooler.dense"]}
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, fan_in_fan_out=name == "gpt2", **options)
    adapters.add("x", config)
    assert isinstance(adapters.config("x"), gw.LoRA)
    unsettle([*adapters.modules_of("x").values()], 1)
    for module in adapters.modules_of("x").values():
        module.double()
    theirs = with_peft(name, config, adapters, torch.float64)
    adapters.train_only("x")
    compare_and_go_back(zoo, theirs)
    for key, module in adapters.modules_of("x").items():
        layer = theirs.base_model.model.get_submodule(adapters.sites[key].output.module)
        close(module.down.grad, layer.lora_A["default"].weight.grad, 1e-10)
        close(module.up.grad, layer.lora_B["default"].weight.grad, 1e-10)


def test_it_is_the_formula() -> None:
    zoo, adapters = attached("bert", torch.float64)
    adapters.add("x", gw.LoRA(rank=3, alpha=6, targets=["layer.0.attention.self.query"], dtype="float64"))
    (module,) = adapters.modules_of("x").values()
    unsettle([module], 1)
    seen: dict[str, Tensor] = {}
    query: nn.Module = zoo.model.encoder.layer[0].attention.self.query
    query.register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    with torch.no_grad(), adapters.using("x"):
        zoo.model(**zoo.inputs)
        x, weight, bias = seen["x"], query.weight, query.bias
        close(seen["y"], x @ weight.T + bias + 6 / 3 * (x @ module.down.T) @ module.up.T)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 2 * 4 * (32 + 32) * 8 + 2 * 2 * (32 + 48) * 8),
        ({"targets": "query", "rank": 2}, 2 * (32 + 32) * 2),
        ({"targets": ["query"], "rank": 2, "rank_pattern": {"layer.1.attention.self.query": 5}}, 64 * 2 + 64 * 5),
        ({"targets": ["layer.*.output.dense"], "leave_out": [0]}, (48 + 32) * 8),
        ({"exclude": ["dense"], "rank": 1}, 2 * 3 * 64),
    ],
)
def test_it_has_as_many_weights(options: dict[str, Any], count: int) -> None:
    _, adapters = attached("bert")
    assert (adapters.sites["encoder.layer.0.feed_forward"].width, adapters.sites.projections[4].width) == (32, 48)
    adapters.add("x", gw.LoRA(**options))
    assert adapters.summary().row("x").weights == count


def test_hooks_are_where_an_adapter_is_and_nowhere_else() -> None:
    zoo, adapters = attached("bert")

    def hooked() -> set[str]:
        return {path for path, module in zoo.model.named_modules() if PORTS in module.__dict__}

    before, keys = hooked(), list(zoo.model.state_dict())
    adapters.add("x", gw.LoRA(targets=["query"]))
    adapters.add("y", gw.LoRA(targets=["query", "key"]))
    queries = {f"encoder.layer.{n}.attention.self.query" for n in range(2)}
    assert hooked() - before == queries | {path.replace("query", "key") for path in queries}
    adapters.remove("y")
    assert hooked() - before == queries
    adapters.remove("x")
    assert hooked() == before
    adapters.add("x", gw.LoRA())
    adapters.detach()
    assert not hooked()
    assert list(zoo.model.state_dict()) == keys


def test_a_module_of_several_layers_has_it_in_each() -> None:
    """ALBERT has one block for all layers: peft's LoRA is in every call of it."""
    zoo, adapters = attached("albert", torch.float64)
    config = peft.LoraConfig(r=2, target_modules=["query", "ffn_output"])
    adapters.add("x", config)
    unsettle([*adapters.modules_of("x").values()], 1)
    for module in adapters.modules_of("x").values():
        module.double()
    theirs = with_peft("albert", config, adapters, torch.float64)
    with torch.no_grad(), adapters.using("x"):
        close(main_output(zoo.model(**zoo.inputs)), main_output(theirs(**zoo.inputs)), 1e-10)


def test_it_adds_before_what_reads_the_branch() -> None:
    """A Houlsby adapter reads the output of the dense layer with LoRA's addition in it."""
    zoo, adapters = attached("bert", torch.float64)
    adapters.add("x", gw.LoRA(targets=["output.dense"], dtype="float64"))
    adapters.add("h", gw.Houlsby(norms="base", dtype="float64"))
    for name in ("x", "h"):
        unsettle([*adapters.modules_of(name).values()], 1)
    merged = copy.deepcopy(build("bert", torch.float64).model)
    for key, module in adapters.modules_of("x").items():
        weight = merged.get_submodule(key).weight
        weight.data += module.scale * module.up.detach() @ module.down.detach()
    other = gw.attach(merged, sites=sites_of("bert"))
    other.add("h", gw.Houlsby(norms="base", dtype="float64"))
    for key, module in other.modules_of("h").items():
        module.load_state_dict(adapters.modules_of("h")[key].state_dict())
    with torch.no_grad(), adapters.using(gw.Stack("h", "x")), other.using("h"):
        close(main_output(zoo.model(**zoo.inputs)), main_output(merged(**zoo.inputs)), 1e-10)


def test_its_dropout_is_at_work_while_it_is_trained() -> None:
    zoo, adapters = attached("gpt2")
    adapters.add("x", gw.LoRA(dropout=0.5))
    unsettle([*adapters.modules_of("x").values()], 1)
    zoo.model.config.use_cache = False
    modules = [*adapters.modules_of("x").values()]
    adapters.train_only("x")
    assert not any(module.random for module in modules)
    zoo.model.train()
    assert all(module.random for module in modules)
    adapters.train_only(None, active="x")
    assert not any(module.random for module in modules)


# -- which options of peft it has --------------------------------------------------------------------------------------

BASE = {"target_modules": ["q_proj", "v_proj"]}
NATIVE = {
    "defaults": {},
    "all linear maps": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*layers\.1\..*(q|v)_proj"},
    "layers": {**BASE, "layers_to_transform": [0], "layers_pattern": ["layers"]},
    "layers by their list": {**BASE, "layers_to_transform": 1, "layers_pattern": "layers"},
    "exclude": {"target_modules": "all-linear", "exclude_modules": ["up_proj"]},
    "rank and alpha": {**BASE, "r": 3, "lora_alpha": 7},
    "patterns": {**BASE, "rank_pattern": {"v_proj": 3}, "alpha_pattern": {"layers.1.self_attn.q_proj": 2}},
    "rank-stabilised": {**BASE, "use_rslora": True},
    "dropout": {**BASE, "lora_dropout": 0.25},
    "gaussian": {**BASE, "init_lora_weights": "gaussian"},
    "task type": {**BASE, "task_type": "FEATURE_EXTRACTION"},
}
OF_PEFT = {
    "both random": {**BASE, "init_lora_weights": False},
    "orthogonal": {**BASE, "init_lora_weights": "orthogonal"},
    "the vocabulary": {"target_modules": ["q_proj", "embed_tokens"]},
    "a bias of LoRA": {**BASE, "lora_bias": True},
}


@pytest.mark.parametrize("options", NATIVE.values(), ids=NATIVE)
def test_these_options_are_native_and_equal(options: dict[str, Any]) -> None:
    zoo, adapters = attached("llama", torch.float64)
    config = peft.LoraConfig(**options)
    adapters.add("x", config)
    assert isinstance(adapters.config("x"), gw.LoRA)
    unsettle([*adapters.modules_of("x").values()], 1)
    for module in adapters.modules_of("x").values():
        module.double()
    theirs = with_peft("llama", config, adapters, torch.float64)
    with torch.no_grad(), adapters.using("x"):
        close(main_output(zoo.model(**zoo.inputs)), main_output(theirs(**zoo.inputs)), 1e-10)


@pytest.mark.parametrize("options", OF_PEFT.values(), ids=OF_PEFT)
def test_these_are_computed_by_peft(options: dict[str, Any]) -> None:
    zoo, adapters = attached("llama")
    adapters.add("x", peft.LoraConfig(**options))
    assert isinstance(adapters.config("x"), gw.Peft)
    adapters.active = "x"
    zoo.model(**zoo.inputs)


def test_every_option_of_peft_is_known_or_at_its_default() -> None:
    """One that a newer peft brings is not passed over in silence: what is not the default is peft's own."""
    _, adapters = attached("llama")
    config = peft.LoraConfig(**BASE)
    assert any(f.name == "use_qalora" for f in dataclasses.fields(config))
    config.use_qalora = True
    adapters.add("x", config)
    assert isinstance(adapters.config("x"), gw.Peft)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 0}, "LoRA: rank is 0"),
        ({"targets": []}, "LoRA: targets is empty"),
        ({"targets": [3]}, r"targets is \[3\]"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern has 0 for 'q_proj'"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern is"),
        ({"leave_out": [7]}, "leave_out names layer 7"),
        ({"a_init": "pissa"}, "a_init is 'pissa'"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], says: str) -> None:
    _, adapters = attached("llama")
    with pytest.raises(gw.ConfigError, match=says):
        adapters.add("x", gw.LoRA(**options))
    assert not adapters.names


def test_where_no_projection_is_called_so_the_names_are_said() -> None:
    _, adapters = attached("llama")
    with pytest.raises(gw.SiteError, match=r"'q_porj'.*did you mean 'q_proj'"):
        adapters.add("x", gw.LoRA(targets=["q_porj"]))
    assert not adapters.names


@pytest.mark.parametrize(
    "wrong", [{"target_modules": "("}, {**BASE, "rank_pattern": {"(": 3}}], ids=["targets", "ranks"]
)
def test_a_pattern_that_is_none_is_refused_by_name(wrong: dict[str, Any]) -> None:
    _, adapters = attached("llama")
    with pytest.raises(gw.ConfigError, match="peft refuses"):
        adapters.add("x", peft.LoraConfig(**wrong))
    assert not adapters.names


def test_its_hooks_come_and_go_where_peft_has_wrapped_the_module() -> None:
    """peft wraps a module between the adding and the removing, and no forward pass comes between them."""
    zoo, adapters = attached("llama")
    before = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    adapters.add("x", gw.LoRA(targets=["q_proj"]))
    adapters.add("theirs", peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]))
    adapters.add("y", gw.LoRA(targets=["q_proj"]))
    adapters.remove("x")
    unsettle([*adapters.modules_of("y").values()], 1)
    with adapters.using("y"):
        assert not torch.equal(main_output(zoo.model(**clone_inputs(zoo.inputs))), before)
    adapters.remove("theirs")
    adapters.remove("y")
    assert torch.equal(main_output(zoo.model(**clone_inputs(zoo.inputs))), before)
    assert not [path for path, m in zoo.model.named_modules() if PORTS in m.__dict__ and path.endswith("q_proj")]
