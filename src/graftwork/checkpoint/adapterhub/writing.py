"""Writing adapters as AdapterHub's library reads them: version 1.3.0 loads the folder with its defaults, and computes the same."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub.bottlenecks import bottleneck_there
from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HASHES, HEAD, SETUP, Names
from graftwork.checkpoint.adapterhub.fusions import LAYER, fusion_there, fusion_weights
from graftwork.checkpoint.adapterhub.heads import head_there
from graftwork.checkpoint.adapterhub.places import path_there, transformer
from graftwork.checkpoint.adapterhub.prefixes import prefix_there
from graftwork.checkpoint.adapterhub.projections import projections_there
from graftwork.checkpoint.adapterhub.reading import require_same_function
from graftwork.checkpoint.adapterhub.setups import composition_there, require_same_composition, subfolder
from graftwork.checkpoint.adapterhub.weights import INVERTIBLE, RULE, SHARED, bottleneck_wanted
from graftwork.checkpoint.folders import replace_folder
from graftwork.checkpoint.tensors import Tensors
from graftwork.compose import Composition, Fuse, FusionConfig, fusions_in, names_in
from graftwork.errors import CheckpointError, ConfigError
from graftwork.methods import IA3, Bottleneck, LoRA, Peft
from graftwork.methods.invertible import InvertibleModule
from graftwork.weights.samples import whole
from graftwork.weights.sharded import class_name

VERSION = "adapters.1.3.0"
_SIDES = ("t5", "mt5", "bart", "mbart", "plbart")  # whose invertible adapters belong to the encoder


def save_adapterhub(handle: Handle, what: Composition, folder: Path) -> Path:
    """Write an adapter, a fusion, or a composition with all its parts, as AdapterHub's library does; see `graftwork.Adapters.save`.

    Raises:
        CheckpointError: If that library has no such adapter or composition, or the folder holds something else.
        UnknownNameError: If there is no adapter or fusion of a name.
    """
    if isinstance(what, str):
        marker, files = _part(handle, what)
        return replace_folder(folder, files, marker=marker)
    try:
        data = composition_there(what)
        require_same_composition(what, handle)
    except ConfigError as error:
        raise CheckpointError(
            f"{what!r} cannot be written for AdapterHub's library: {error}; leave out format"
        ) from error
    files = {SETUP: as_json({"adapter_setup": data, "head_setup": None, "version": VERSION})}
    for name in dict.fromkeys((*names_in(what), *(fusion.name for fusion in fusions_in(what)))):
        files |= {f"{subfolder(Path(), name)}/{path}": content for path, content in _part(handle, name)[1].items()}
    return replace_folder(folder, files, marker=SETUP)


def _part(handle: Handle, name: str) -> tuple[str, dict[str, bytes]]:
    """The file by which the folder of an adapter or a fusion is known, and all its files, with its head's."""
    kind = handle.kind_of(name)
    where = f"{name!r} as {'a fusion' if kind == 'fusion' else 'an adapter'} of AdapterHub's library"
    values = {**_of_model(handle), "name": name, "version": VERSION}
    try:
        if "." in name:
            raise ConfigError("a name with a dot is none there")
        if kind == "fusion":
            pool, config = handle.fusions[name], handle.config(name)
            if not isinstance(pool, Fuse) or not isinstance(config, FusionConfig):
                raise ConfigError(f"a {type(pool).__name__} has no counterpart there")
            values |= {"adapter_names": list(pool.children), "config": fusion_there(config, pool, handle)}
            names, tensors = FUSION, _fusion(handle, name)
        else:
            names = ADAPTER
            values["config"], tensors = _there(handle, name, handle.adapter_config(name), where)
    except ConfigError as error:
        raise CheckpointError(f"{where} cannot be written: {error}; save it in graftwork's format") from error
    files = _with_hash(names, values, tensors)
    head = head_there(handle, name)
    if head is not None:
        files |= _with_hash(HEAD, {**_of_model(handle), "version": VERSION, **head[0]}, head[1])
    return names.config, files


def _with_hash(names: Names, values: Mapping[str, Any], tensors: Tensors) -> dict[str, bytes]:
    """The two files of a part; the JSON has the hash of the other, which their library does not look at."""
    data = encoded(tensors)
    hashes = {HASHES: {names.older: hashlib.sha256(data).hexdigest()}}
    return {names.config: as_json({**values, **hashes}), names.older: data}


def _fusion(handle: Handle, name: str) -> Tensors:
    model_type, prefix = str(_of_model(handle)["model_type"]), _prefix(handle)
    found: Tensors = {}
    for key, module in handle.modules_of(name).items():
        start = f"{prefix}{path_there(key, handle.sites, model_type)}.{LAYER}.{name}."
        found |= {f"{start}{one}": tensor for one, tensor in fusion_weights(module).items()}
    return found


def _there(handle: Handle, name: str, config: Any, where: str) -> tuple[dict[str, Any], Tensors]:
    modules, model_type = handle.modules_of(name), str(_of_model(handle)["model_type"])
    require_same_function(where, handle, modules)
    if isinstance(config, Peft):
        options, tensors = prefix_there(config, name, handle)
        return options, {f"{_prefix(handle)}{key}": tensor for key, tensor in tensors.items()}
    if isinstance(config, (LoRA, IA3)):
        options, tensors = projections_there(config, modules, handle)
        kind = "loras"
    elif isinstance(config, Bottleneck):
        options = bottleneck_there(config, modules, handle.sites)
        tensors = _bottleneck(config, modules, handle.shared_of(name))
        kind = "adapters"
    else:
        raise ConfigError(f"{config.display_name} has no counterpart there")
    side = "encoder." if model_type in _SIDES else ""
    starts = {f"{SHARED}.": f"{SHARED}.{name}.", f"{INVERTIBLE}.": f"{side}{INVERTIBLE}.{name}."}
    for key, module in modules.items():
        if not isinstance(module, InvertibleModule):
            starts[f"{key}."] = f"{path_there(key, handle.sites, model_type)}.{kind}.{name}."
    found = {}
    for key, tensor in tensors.items():
        start = next(start for start in starts if key.startswith(start))
        found[f"{_prefix(handle)}{starts[start]}{key.removeprefix(start)}"] = tensor
    return options, found


def _bottleneck(config: Bottleneck, modules: Mapping[str, nn.Module], shared: nn.Module | None) -> Tensors:
    """The tensors by site, each as their library has it: with all biases, and a norm before the projection twice."""
    found = bottleneck_wanted(config, modules, shared)
    is_kronecker = RULE in found or any(".phm_rule" in name or ".W" in name for name in found)
    for key, module in modules.items():
        if isinstance(module, InvertibleModule):
            continue
        first = f"{key}.adapter_down.{int(config.norm_before)}"
        for start, weight in ((first, module.down_weight), (f"{key}.adapter_up", module.up_weight)):  # type: ignore[operator]
            bias = f"{start}.{'b' if is_kronecker else 'bias'}"
            found.setdefault(bias, torch.zeros(len(weight())))  # type: ignore[operator]
        if config.norm_before:
            for one in ("weight", "bias"):
                found[f"{key}.adapter_norm_before.{one}"] = found[f"{key}.adapter_down.0.{one}"]
    return found


def _prefix(handle: Handle) -> str:
    """The path of the base in a model with a head, where their library looks in both."""
    prefix = getattr(transformer(handle.model), "base_model_prefix", "")
    return f"{prefix}." if prefix else ""


def _of_model(handle: Handle) -> dict[str, Any]:
    """What their files say of the model."""
    model = transformer(handle.model)
    config = getattr(model, "config", None)
    return {
        "model_type": getattr(config, "model_type", None),
        "model_class": class_name(model),
        "model_name": getattr(config, "name_or_path", None) or None,
        "hidden_size": getattr(config, "hidden_size", None),
    }


def as_json(values: Mapping[str, Any]) -> bytes:
    """JSON values as the bytes of a file."""
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def encoded(tensors: Tensors) -> bytes:
    """The bytes of a file of ``torch.save``, which their library reads unless it is told otherwise."""
    empty = [name for name, tensor in tensors.items() if tensor.is_meta]
    if empty:
        raise CheckpointError(f"{empty[0]!r} is on the meta device and has no values; load or move the model first")
    file = io.BytesIO()
    torch.save({name: whole(t.detach()).cpu().contiguous().clone() for name, t in tensors.items()}, file)
    return file.getvalue()
