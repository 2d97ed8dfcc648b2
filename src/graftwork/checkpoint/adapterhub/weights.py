"""The tensors of one of AdapterHub's adapters, by the module that has them, and in the form that ours have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from graftwork.checkpoint.adapterhub.files import Part
from graftwork.checkpoint.adapterhub.places import site_of
from graftwork.checkpoint.adapterhub.prefixes import PREFIXES
from graftwork.checkpoint.tensors import Tensors
from graftwork.errors import CheckpointError
from graftwork.methods import PHM, Bottleneck, Compacter
from graftwork.methods.invertible import InvertibleModule
from graftwork.methods.layers.kronecker import Rule
from graftwork.sites import SiteMap

SHARED, INVERTIBLE = "shared_parameters", "invertible_adapters"
RULE = f"{SHARED}.phm_rule"
_KINDS = ("adapters", "loras", PREFIXES, SHARED, INVERTIBLE)
_OLDER = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
    "invertible_lang_adapters": INVERTIBLE,
}

ByModule = dict[str, dict[str, Tensors]]


def by_module(part: Part) -> ByModule:
    """The tensors of an adapter by the kind of what has them, its path, and their names in it.

    Raises:
        CheckpointError: If one belongs to something else.
    """
    found: ByModule = {kind: {} for kind in _KINDS}
    for key, tensor in part.tensors.items():
        name = ".".join(_OLDER.get(word, word) for word in key.split("."))
        for kind in _KINDS:
            path, between, local = f".{name}".partition(f".{kind}.{part.name}.")
            if between:
                found[kind].setdefault(path[1:], {})[local] = tensor
                break
        else:
            raise CheckpointError(f"{part.where}: the tensor {key!r} is no weight of an adapter called {part.name!r}")
    return found


def bottleneck_tensors(part: Part, modules: ByModule, config: Bottleneck, sites: SiteMap) -> Tensors:
    """The tensors of a bottleneck, as ``<site>.<their name>``, without what says the same twice.

    Raises:
        CheckpointError: If one is at no site of this model.
    """
    shared = _merged(modules[SHARED])
    found: Tensors = {}
    for path, tensors in modules["adapters"].items():
        key = site_of(path, sites)
        if key is None:
            raise CheckpointError(
                f"{part.where} has weights at {path!r}, and this {sites.model_class} has no such place"
            )
        found |= {f"{key}.{name}": tensor for name, tensor in _plain(tensors, shared, part, config).items()}
    for path in modules["loras"]:
        raise CheckpointError(f"{part.where} has a LoRA at {path!r}, and its configuration is that of a bottleneck")
    found |= {f"{INVERTIBLE}.{name}": tensor for name, tensor in _merged(modules[INVERTIBLE]).items()}
    if {"phm_rule", "phm_rule_left"} & shared.keys():
        found[RULE] = _rule(shared, "")
    return found


def _merged(modules: Mapping[str, Tensors]) -> Tensors:
    return {name: tensor for tensors in modules.values() for name, tensor in tensors.items()}


def _plain(tensors: Tensors, shared: Tensors, part: Part, config: Bottleneck) -> Tensors:
    """The tensors of one module: a norm once, rules multiplied out, and weights that all modules share put into each."""
    found = dict(tensors)
    for one in ("weight", "bias"):  # the norm is registered twice, by itself and as the first of a sequence
        again, first = found.pop(f"adapter_norm_before.{one}", None), found.get(f"adapter_down.0.{one}")
        if again is not None and (first is None or not torch.equal(again, first)):
            raise CheckpointError(
                f"{part.where}: the two copies of its norm before the down-projection are not the same"
            )
    for ours, theirs in (("down", f"adapter_down.{int(config.norm_before)}"), ("up", "adapter_up")):
        for name in ("W", "W_left", "W_right"):
            if (shared_name := name.replace("W", f"W_{ours}", 1)) in shared:
                found[f"{theirs}.{name}"] = shared[shared_name]
        if f"{theirs}.phm_rule_left" in found:
            found[f"{theirs}.phm_rule"] = _rule(found, f"{theirs}.")
            del found[f"{theirs}.phm_rule_left"], found[f"{theirs}.phm_rule_right"]
    return found


def _rule(tensors: Tensors, start: str) -> torch.Tensor:
    """The matrices A_i, from their factors where they have these."""
    left, right = tensors.get(f"{start}phm_rule_left"), tensors.get(f"{start}phm_rule_right")
    return tensors[f"{start}phm_rule"] if left is None or right is None else left @ right


def bottleneck_wanted(config: Bottleneck, modules: Mapping[str, nn.Module], shared: nn.Module | None) -> Tensors:
    """The tensors of our modules at sites, by the names that `bottleneck_tensors` gives theirs."""
    names = names_of_tensors(config)
    found: Tensors = {}
    for key, module in modules.items():
        if not isinstance(module, InvertibleModule):
            state = module.state_dict(keep_vars=True)
            found |= {f"{key}.{names[name]}": tensor for name, tensor in state.items()}
    if isinstance(shared, Rule):
        found[RULE] = shared.matrices
    elif shared is not None:
        (coupling,) = shared.children()
        state = coupling.state_dict(keep_vars=True)
        found |= {f"{INVERTIBLE}.{theirs}": state[ours] for ours, theirs in names_of_coupling().items()}
    return found


def weights_of(modules: Mapping[str, nn.Module]) -> Tensors:
    """The tensors of modules at sites, by the site and our name."""
    return {f"{key}.{n}": t for key, module in modules.items() for n, t in module.state_dict(keep_vars=True).items()}


def names_of_tensors(config: Bottleneck) -> dict[str, str]:
    """Their name of each weight of a module at a site, by our name: ``{"down": "adapter_down.0.weight", …}``."""
    first = f"adapter_down.{int(config.norm_before)}"
    names = {"scale": "scaling", "gate": "gate.weight", "gate_bias": "gate.bias"}
    names |= {f"norm_before.{one}": f"adapter_down.0.{one}" for one in ("weight", "bias")}
    names |= {f"norm_after.{one}": f"adapter_norm_after.{one}" for one in ("weight", "bias")}
    for ours, theirs in (("down", first), ("up", "adapter_up")):
        if isinstance(config, (Compacter, PHM)):
            names |= {f"{ours}.rule": f"{theirs}.phm_rule", f"{ours}_bias": f"{theirs}.b"}
            names |= {f"{ours}.left": f"{theirs}.W" if config.rank is None else f"{theirs}.W_left"}
            names |= {f"{ours}.right": f"{theirs}.W_right"}
        else:
            names |= {ours: f"{theirs}.weight", f"{ours}_bias": f"{theirs}.bias"}
    return names


def names_of_coupling() -> dict[str, str]:
    """Their name of each weight of an invertible adapter, by our name."""
    pairs = (("f_down", "F.0"), ("f_up", "F.2"), ("g_down", "G.0"), ("g_up", "G.2"))
    return {f"{ours}.{one}": f"{theirs}.{one}" for ours, theirs in pairs for one in ("weight", "bias")}
