"""AdapterFusion of AdapterHub as ours and back.

Theirs fuses what the adapters' up-projections return, without their gates and norms, at the places and with the wiring of the last
one. So it is the same function where all adapters of the pool stand at the same places, read and write alike, and have neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub.files import Part
from graftwork.checkpoint.adapterhub.places import site_of, transformer
from graftwork.checkpoint.tensors import Tensors
from graftwork.compose import Fuse, FusionConfig
from graftwork.errors import ConfigError
from graftwork.methods import Bottleneck

LAYER = "adapter_fusion_layer"
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop", "dropout_rate")
_DEFAULTS: dict[str, Any] = {
    **{
        "key": True,
        "query": True,
        "value": True,
        "query_before_ln": False,
        "regularization": True,
        "temperature": False,
    },
    **{"residual_before": False, "value_before_softmax": True, "value_initialized": True, "dropout_prob": None},
}
_NAMES = {f"{one}_{kind}": f"{one}.{kind}" for one in ("query", "key") for kind in ("weight", "bias")}


def pool_of(part: Part, name: str) -> Fuse:
    """The block with the adapters that a fusion was trained over, in their order.

    Raises:
        ConfigError: If the file does not say them.
    """
    names = part.values.get("adapter_names", part.name)
    names = names.split(",") if isinstance(names, str) else names
    if not isinstance(names, list) or not names or not all(isinstance(one, str) and one for one in names):
        raise ConfigError(f"adapter_names is {names!r}, no list of names")
    return Fuse(*names, name=name)


def fusion_here(options: Mapping[str, Any], pool: Iterable[str], handle: Handle) -> FusionConfig:
    """Our configuration of the same function.

    Args:
        options: The ``config`` in their file.
        pool: The adapters, which are on the model.
        handle: The model.

    Raises:
        ConfigError: If ours has no such function, or theirs is wrong for these adapters.
    """
    unknown = [key for key, value in options.items() if key not in _DEFAULTS and value]
    if unknown:
        raise ConfigError(f"the option {unknown[0]}={options[unknown[0]]!r} is not known")
    their = {**_DEFAULTS, **options}
    if not their["query"] or not their["key"]:
        raise ConfigError("a fusion without a query or a key matrix is none of ours")
    if their["temperature"]:
        raise ConfigError(
            "its temperature falls with every forward pass and is in no file, so that its outputs are not known"
        )
    reads = require_alike(pool, handle)
    base = getattr(transformer(handle.model), "config", None)
    dropout = next((getattr(base, name) for name in _DROPOUTS if hasattr(base, name)), 0.0)
    return FusionConfig(
        query="output" if their["query_before_ln"] else reads,
        value=bool(their["value"]),
        residual_before=bool(their["residual_before"]),
        regularization=0.01 if their["regularization"] else 0.0,
        dropout=their["dropout_prob"] or dropout,
    )


def require_alike(pool: Iterable[str], handle: Handle) -> str:
    """What the adapters of a pool all read, ``"output"`` or ``"normed"``; refuse one whose fusion is another function there."""
    configs = {name: handle.adapter_config(name) for name in pool}
    for name, config in configs.items():
        if not isinstance(config, Bottleneck) or config.skip is not None:
            raise ConfigError(f"{name!r} is a {config.display_name}, and AdapterHub's library fuses bottlenecks alone")
        if config.reads == "residual":
            raise ConfigError(
                f"{name!r} is parallel, and version 1.3.0 adds the residual connection twice when it fuses these"
            )
        if config.reads not in ("output", "normed") or config.writes != "branch":
            raise ConfigError(
                f"{name!r} reads {config.reads!r} and writes {config.writes!r}, which is in no fusion of theirs here"
            )
        if config.gate or config.norm_after:
            raise ConfigError(f"{name!r} has a gate or a norm after it, which version 1.3.0 leaves out when it fuses")
    first = next(iter(configs))
    for name, config in configs.items():
        if handle.modules_of(name).keys() != handle.modules_of(first).keys() or config.reads != configs[first].reads:  # type: ignore[attr-defined]
            raise ConfigError(
                f"{first!r} and {name!r} are at other sites or read differently; version 1.3.0 computes all as the last one"
            )
    return str(configs[first].reads)  # type: ignore[attr-defined]


def fusion_tensors(part: Part, keys: Collection[str], handle: Handle) -> Tensors:
    """The tensors of a fusion at the sites of its pool, as ``<site>.<our name>``; the file may have others beside them."""
    found: Tensors = {}
    names = {theirs: ours for ours, theirs in _NAMES.items()}
    for key, tensor in part.tensors.items():
        path, between, local = key.partition(f".{LAYER}.{part.name}.")
        site = site_of(path, handle.sites) if between else None
        if site is None or site not in keys:
            continue  # another fusion whose name begins alike, or layers that the pool leaves out
        if local == "value.weight" and tensor.dim() == 2 and len(set(tensor.shape)) == 1:
            found[f"{site}.value_delta"] = tensor - torch.eye(len(tensor), dtype=tensor.dtype)
        else:
            found[f"{site}.{names.get(local, local)}"] = tensor
    return found


def fusion_there(config: FusionConfig, pool: Fuse, handle: Handle) -> dict[str, Any]:
    """Their options for the same function.

    Raises:
        ConfigError: If theirs has no such function.
    """
    if not all(isinstance(child, str) for child in pool.children):
        raise ConfigError("AdapterHub's library fuses adapters alone: of a Stack it takes the last one")
    reads = require_alike(map(str, pool.children), handle)
    if config.temperature is not None or config.query not in ("output", reads):
        raise ConfigError("a temperature, or a query that its adapters do not read, is in none of their files")
    return _DEFAULTS | {
        "query_before_ln": config.query != reads,
        "value": config.value,
        "residual_before": config.residual_before,
        "regularization": bool(config.regularization),
        "value_initialized": config.value,
        "dropout_prob": config.dropout or None,
    }


def fusion_weights(module: nn.Module) -> Tensors:
    """The weights of a fusion at a site by their names."""
    found = {theirs: getattr(module, ours) for ours, theirs in _NAMES.items()}
    value = module.value()  # type: ignore[operator]
    return found if value is None else {**found, "value.weight": value}
