"""LoRA, DoRA and (IA)³ of AdapterHub as ours: where they are the same function at linear modules.

y + (α / r) B A x            a LoRA; at a merged projection of queries, keys and values one for each of these, which is a LoRA
                             of as many times the rank whose B has blocks
α l ⊙ y                      (IA)³
m ⊙ (y + (α / r) B A x) / ‖W + B A‖      their DoRA: the norm is without α / r, and the module's bias is scaled too
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub.files import Part
from graftwork.checkpoint.adapterhub.places import layers_here, numbered, projection_of, role_of
from graftwork.checkpoint.tensors import Tensors
from graftwork.errors import CheckpointError, ConfigError
from graftwork.methods import IA3, DoRA, LoRA
from graftwork.peft_bridge.native import names_of
from graftwork.sites import SiteMap, weight_by_output

_DEFAULTS: dict[str, Any] = {
    **{"selfattn_lora": True, "intermediate_lora": False, "output_lora": False, "leave_out": [], "r": 8, "alpha": 8},
    **{"dropout": 0.0, "attn_matrices": ["q", "v"], "composition_mode": "add", "use_gating": False, "use_dora": False},
    **{
        "vera_d": None,
        "vera_b": None,
        "dtype": None,
        "init_weights": "lora",
        "init_weights_seed": None,
        "architecture": "lora",
    },
}


def projections_here(part: Part, modules: Mapping[str, Tensors], handle: Handle) -> tuple[LoRA | IA3, Tensors]:
    """Our configuration of the same function, and its tensors as ``<projection>.<our name>``.

    Args:
        part: The file.
        modules: Its tensors by the paths of the linear modules that they are at.
        handle: The model.

    Raises:
        ConfigError: If ours has no such function.
        CheckpointError: If the model lacks one of the modules, or the file has not the weights that its options say.
    """
    unknown = [key for key, value in part.config.items() if key not in _DEFAULTS and value]
    if unknown:
        raise ConfigError(f"the option {unknown[0]}={part.config[unknown[0]]!r} is not known")
    their = {**_DEFAULTS, **{key: value for key, value in part.config.items() if value is not None}}
    if their["use_gating"]:
        raise ConfigError("use_gating=True: its gate is in place of α / r and a mean over all positions; ours has none")
    if their["vera_d"] is not None or their["vera_b"] is not None:
        raise ConfigError("its VeRA has two dense matrices in each module where the method has vectors")
    if type(their["r"]) is not int or their["r"] < 1:
        raise ConfigError(f"r is {their['r']!r}; it is a whole number of 1 or more")
    keys: dict[str, Tensors] = {}
    for path, tensors in modules.items():
        key = projection_of(path, handle.sites)
        if key is None:
            raise CheckpointError(f"{part.where} has weights at {path!r}, and this model has no such linear module")
        keys[key] = tensors
    keys = {key: keys[key] for key in handle.sites.place_of if key in keys}
    _require_all(part, their, keys, handle.sites)
    if their["composition_mode"] == "scale":
        return _ia3(their, keys, handle)
    if their["composition_mode"] != "add":
        raise ConfigError(f"composition_mode is {their['composition_mode']!r}; it is 'add' or 'scale'")
    return _lora(their, keys, handle)


def _require_all(part: Part, their: Mapping[str, Any], keys: Mapping[str, Tensors], sites: SiteMap) -> None:
    """Refuse a file that lacks the weights of a layer or of a kind of module that its options name."""
    roles = {role_of(key) for key in keys}
    wanted: set[str | None] = set(their["attn_matrices"]) & set("qkv") if their["selfattn_lora"] else set()
    wanted = {"qkv"} if wanted and "qkv" in roles else wanted
    wanted |= {role for role in ("intermediate", "output") if their[f"{role}_lora"]}
    if roles != wanted:
        names = [sorted(map(str, found)) or "none" for found in (roles, wanted)]
        raise CheckpointError(f"{part.where} is damaged: it has weights at {names[0]}, and its options name {names[1]}")
    left = set(map(str, layers_here(their["leave_out"], sites)))
    layers = [layer for layer in numbered(sites) if not left & {layer, layer.rpartition(".")[2]}]
    inside = {layer: {key.removeprefix(f"{layer}.") for key in keys if key.startswith(f"{layer}.")} for layer in layers}
    uneven = [
        layer for layer in layers for other in layers if _same_stack(layer, other) and inside[layer] != inside[other]
    ]
    empty = [layer for layer in layers if not inside[layer]]
    if empty or uneven or sum(map(len, inside.values())) != len(keys):
        where = (empty or uneven or ["layers that leave_out names"])[0]
        raise CheckpointError(f"{part.where} is damaged: it does not have the weights that its options name at {where}")


def _same_stack(layer: str, other: str) -> bool:
    return layer.rpartition(".")[0] == other.rpartition(".")[0]


def _lora(their: Mapping[str, Any], keys: Mapping[str, Tensors], handle: Handle) -> tuple[LoRA, Tensors]:
    rank, alpha = their["r"], their["alpha"]
    times = {key: _parts(key, their) for key in keys}
    most = max(times.values(), default=1)
    config = (DoRA if their["use_dora"] else LoRA)(
        targets=_targets(keys, handle),
        rank=rank * most,
        alpha=alpha * most,
        rank_pattern={key: rank * n for key, n in times.items() if n != most},
        alpha_pattern={key: alpha * n for key, n in times.items() if n != most},
        dropout=their["dropout"],
        dtype=their["dtype"] or "float32",
    )
    found: Tensors = {}
    for key, given in keys.items():
        tensors = dict(given)
        down, up, magnitude = tensors.pop("lora_A", None), tensors.pop("lora_B", None), tensors.pop("m.weight", None)
        if up is not None and times[key] > 1:
            up = _block_diagonal(up, _slots(their), times[key])
        elif up is not None and role_of(key) == "qkv":
            up = _padded(up, _slots(their))
        if magnitude is not None and down is not None and up is not None:
            magnitude = magnitude.reshape(-1) * _norms_ratio(key, handle, down, up, alpha / rank)
        ours = {"down": down, "up": up, "magnitude": magnitude, **tensors}
        found |= {f"{key}.{name}": tensor for name, tensor in ours.items() if tensor is not None}
    return config, found


def _ia3(their: Mapping[str, Any], keys: Mapping[str, Tensors], handle: Handle) -> tuple[IA3, Tensors]:
    found: Tensors = {}
    for key, given in keys.items():
        tensors = dict(given)
        factors = tensors.pop("lora_B", None)
        if factors is not None:
            factors = factors.reshape(-1, 1)
            factors = (_padded(factors - 1, _slots(their)) + 1 if role_of(key) == "qkv" else factors)[:, 0] * their[
                "alpha"
            ]
            found[f"{key}.factors"] = factors
        found |= {f"{key}.{name}": tensor for name, tensor in tensors.items()}
    return IA3(targets=_targets(keys, handle)), found


def _targets(keys: Mapping[str, Any], handle: Handle) -> tuple[str, ...]:
    known = [handle.sites.key_of(site) for site in handle.sites.projections]
    return names_of(keys, keys, known)


def _slots(their: Mapping[str, Any]) -> list[int]:
    """Which of queries, keys and values, in this order, have weights."""
    return [n for n, one in enumerate("qkv") if one in their["attn_matrices"]]


def _parts(key: str, their: Mapping[str, Any]) -> int:
    return len(_slots(their)) if role_of(key) == "qkv" else 1


def _padded(rows: Tensor, slots: list[int]) -> Tensor:
    """Rows for some of queries, keys and values, as rows for all of them, the others zero."""
    parts = dict(zip(slots, rows.chunk(len(slots)), strict=True))
    return torch.cat([parts.get(n, torch.zeros_like(parts[slots[0]])) for n in range(3)])


def _block_diagonal(up: Tensor, slots: list[int], parts: int) -> Tensor:
    """B of one LoRA from those of several, each for its own rows and its own part of the rank."""
    blocks = torch.block_diag(*up.chunk(parts))
    return _padded(blocks, slots)


def _norms_ratio(key: str, handle: Handle, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """‖W + s B A‖ / ‖W + B A‖: our magnitude over theirs.

    Raises:
        ConfigError: If the module has a bias, which theirs scales.
    """
    module: Any = handle.model.get_submodule(handle.sites[key].output.module)
    if module.bias is not None:
        raise ConfigError(f"their DoRA scales the bias of {key} too, which is no part of the method")
    weight = weight_by_output(module).detach().cpu().double()
    change = up.detach().cpu().double() @ down.detach().cpu().double()
    return ((weight + scale * change).norm(dim=1) / (weight + change).norm(dim=1)).to(up.dtype)


def projections_there(config: LoRA | IA3, modules: Mapping[str, Any], handle: Handle) -> tuple[dict[str, Any], Tensors]:
    """Their options and tensors for the same function; the tensors as ``(projection, their name)`` joined by a dot.

    Raises:
        ConfigError: If theirs has no such function.
    """
    roles = {key: role_of(key) for key in modules}
    chosen = set(roles.values())
    same = [
        handle.sites.key_of(site) for site in handle.sites.projections if role_of(handle.sites.key_of(site)) in chosen
    ]
    inside = {layer: [key for key in same if key.startswith(f"{layer}.")] for layer in numbered(handle.sites)}
    left = [n for n, keys in enumerate(inside.values()) if not set(keys) & set(modules)]
    covered = {key for n, keys in enumerate(inside.values()) if n not in left for key in keys}
    if None in chosen or covered != set(modules):
        wrong = next((key for key, role in roles.items() if role is None), None) or min(covered ^ set(modules))
        raise ConfigError(
            f"AdapterHub's options name queries, keys, values and the two ends of the feed-forward, each in whole layers; {wrong} "
            "is not among them, or alone"
        )
    their = _DEFAULTS | {
        "selfattn_lora": bool(chosen & set("qkv") or "qkv" in chosen),
        "attn_matrices": [one for one in "qkv" if one in chosen or "qkv" in chosen],
        "leave_out": left,
        **{f"{role}_lora": role in chosen for role in ("intermediate", "output")},
    }
    if isinstance(config, IA3):
        if any(module.reads == "input" for module in modules.values()):
            raise ConfigError(
                "AdapterHub's (IA)³ scales what a module returns, never what enters it: feedforward is not there"
            )
        their |= {"composition_mode": "scale", "r": 1, "alpha": 1, "init_weights": "ia3"}
        return their, {f"{key}.lora_B": module.factors[:, None] for key, module in modules.items()}
    ranks, scales = {len(m.down) for m in modules.values()}, {m.scale for m in modules.values()}
    if len(ranks) > 1 or len(scales) > 1 or "qkv" in chosen:
        raise ConfigError(
            "AdapterHub's LoRA has one rank and one α, and at merged queries, keys and values one LoRA for each"
        )
    (rank,), (scale,) = ranks, scales
    their |= {"r": rank, "alpha": scale * rank, "dropout": config.dropout, "use_dora": isinstance(config, DoRA)}
    found: Tensors = {}
    for key, module in modules.items():
        found |= {f"{key}.lora_A": module.down, f"{key}.lora_B": module.up}
        if isinstance(config, DoRA):
            found[f"{key}.m.weight"] = (
                module.magnitude[:, None] / _norms_ratio(key, handle, module.down, module.up, scale)[:, None]
            )
    return their, found
