"""peft's files both ways: ``adapter_config.json`` and ``adapter_model.safetensors``.

A LoRA, DoRA or (IA)³ is read as ours where that is the same function. Of every other method that puts layers around modules peft
makes the layers, and the file fills them. A head that peft saved (``modules_to_save``) is read where the model has one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graftwork.attach import Handle, Labels, OwnHead, building
from graftwork.attach.changes import changing
from graftwork.checkpoint.folders import existing, replace_folder
from graftwork.checkpoint.json_files import read_json
from graftwork.checkpoint.own_heads import fitting_head, of_own_head
from graftwork.checkpoint.staging import making
from graftwork.checkpoint.tensors import Tensors, encode, fill, read_tensors, require_fit
from graftwork.errors import CheckpointError, ConfigError
from graftwork.methods import IA3, DoRA, LoRA, Peft
from graftwork.methods.layers.projection_config import ends_in_any
from graftwork.methods.peft import NOT_KEPT
from graftwork.peft_bridge.native import is_the_head, native_config
from graftwork.sites import is_conv1d
from graftwork.weights.holder import base_modules
from graftwork.weights.names import check_new

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PICKLE = "adapter_model.bin"  # may run code when it is read, and is not
_START = "base_model.model."
_MAGNITUDE = "lora_magnitude_vector"  # of DoRA: a module in the model, a tensor in a file
_MATRICES = {"lora_A.weight": "down", "lora_B.weight": "up"}
_TASKS = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "QuestionAnswering": "QUESTION_ANS"}
_TASKS |= {"CausalLM": "CAUSAL_LM", "LMHead": "CAUSAL_LM", "ConditionalGeneration": "SEQ_2_SEQ_LM"}
logger = logging.getLogger(__name__)


def is_peft_folder(folder: Path) -> bool:
    """Whether a folder is one that peft wrote."""
    return (folder / CONFIG).is_file()


# -- reading -----------------------------------------------------------------------------------------------------------


def load_peft(handle: Handle, folder: Path, name: str | None, *, head: bool | None) -> str:
    """Add the adapter that a folder of peft holds; see `graftwork.Adapters.load`.

    Raises:
        CheckpointError: If it is damaged, or does not fit this model; nothing is added then.
        NameTakenError: If the name is taken.
    """
    folder = existing(folder)
    name = folder.name if name is None else name
    check_new(name, handle, "the adapter")
    config, tensors = _read(folder)
    where = f"{folder} (peft {config.kind})"
    other = other_layers(handle, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    if other is not None:
        raise CheckpointError(f"{where} was trained on {other}")
    layers, rest = _by_layer(handle, tensors)
    own_head = getattr(config.peft, "modules_to_save", None)  # not every method has the option
    saved = tuple(f"{module}." for module in own_head or ())
    layers |= {key: tensor for key, tensor in rest.items() if not key.startswith(saved)}  # which do not fit
    rest = {key: tensor for key, tensor in rest.items() if key.startswith(saved)}
    with making(where, tensors):
        native = native_config(config.peft, handle.model, handle.sites, handle.head_paths)
        own = _head(handle, rest, head, where)
        if native is not None:
            modules, norms = building.build(handle.model, handle.sites, native)
        else:
            if own_head and is_the_head(own_head, handle.model, handle.head_paths):
                config = Peft(peft={**config.to_dict()["peft"], "modules_to_save": None})
            with changing(handle):
                made = handle.inject(name, config)
    if native is None:
        try:
            assert made is not None
            wanted = made.state_dict(keep_vars=True)
            require_fit(wanted, layers, where)
            fill(wanted, layers)
            handle.register(name, config, {}, {}, own)
        except BaseException:
            handle.discard(name)
            raise
        return name
    places = handle.sites.places
    wanted = {}
    for index, module in modules.items():
        wanted |= _as_in_a_file(handle.sites.key_of(places[index]), module)
    require_fit(wanted, layers, where)
    fill(wanted, layers)
    handle.register(name, native, modules, norms, own)
    return name


def _read(folder: Path) -> tuple[Peft, Tensors]:
    values = read_json(folder / CONFIG)
    try:
        config = Peft(peft={k: value for k, value in values.items() if value is not None and k not in NOT_KEPT})
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    if not (folder / TENSORS).is_file() and (folder / PICKLE).is_file():
        raise CheckpointError(f"{folder} has {PICKLE}, which may run code when it is read: save it anew with peft")
    tensors, _ = read_tensors(folder / TENSORS)
    return config, {f"{k}.weight" if k.endswith(_MAGNITUDE) else k: tensor for k, tensor in tensors.items()}


def _by_layer(handle: Handle, tensors: Mapping[str, Tensor]) -> tuple[Tensors, Tensors]:
    """The tensors of layers, by their names inside the base, and the others, by their names in the model.

    A file may come from another model around the same base: what is ``bert.encoder.layer.0…`` there is ``encoder.layer.0…``.
    """
    known = {path.removeprefix(handle.sites.prefix) for path, _ in base_modules(handle.model)}
    layers: Tensors = {}
    rest: Tensors = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix(_START)
        parts = plain.split(".")
        inside = next((".".join(parts[n:]) for n in range(len(parts)) if _is_in(known, parts[n:])), None)
        (rest if inside is None else layers)[plain if inside is None else inside] = tensor
    return layers, rest


def other_layers(handle: Handle, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Which layers of a file a model does not have, or not in that size, in a clause; by the matrices of LoRA."""
    modules = {path.removeprefix(handle.sites.prefix): module for path, module in base_modules(handle.model)}
    for name, shape in sorted(shapes.items()):
        path, dot, matrix = name.removeprefix(_START).partition(".lora_")
        if not dot or matrix not in ("A.weight", "B.weight") or len(shape) != 2:
            continue
        parts = path.split(".")
        module = next((modules[p] for n in range(len(parts)) if (p := ".".join(parts[n:])) in modules), None)
        weight = getattr(module, "weight", None)
        if weight is None:
            return f"a model with other layers: {path} is not in this {type(handle.model).__name__}; load it on one that has it"
        if weight.dim() == 2 and weight.is_floating_point() and shape[1 if matrix[0] == "A" else 0] not in weight.shape:
            sizes = " × ".join(map(str, weight.shape))
            return f"a model of another size: {name} is {shape[0]} × {shape[1]}, and that weight {sizes} here"
    return None


def _is_in(known: set[str], parts: list[str]) -> bool:
    """Whether a path begins with the path of a numbered module of the base, such as a layer."""
    return any(part.isdigit() and ".".join(parts[: n + 1]) in known for n, part in enumerate(parts) if n)


def _head(handle: Handle, tensors: Tensors, wish: bool | None, where: str) -> OwnHead | None:
    """A copy of the model's head with the weights of a file; ``None`` where that is left aside.

    Raises:
        CheckpointError: If it is asked for and cannot be had.
    """
    given = of_own_head(handle, tensors)
    if len(given) < len(tensors) and (wish or (wish is None and given)):
        raise CheckpointError(
            f"{where} has {next(iter(tensors))!r}, which this model does not; say load(..., head=False)"
        )
    if wish is False or not given:
        if wish:
            raise CheckpointError(f"{where} has no head; leave out head=True")
        if tensors:
            logger.info("%s: its head is left aside", where)
        return None
    head, wanted = fitting_head(handle, given, lambda: Labels.given(len(list(given.values())[-1])))
    require_fit(wanted, given, where)
    fill(wanted, given)
    return head


# -- writing -----------------------------------------------------------------------------------------------------------


def save_peft(handle: Handle, name: str, folder: Path) -> Path:
    """Write an adapter as peft does; see `graftwork.Adapters.save`.

    Raises:
        CheckpointError: If peft has no such adapter, or the folder holds something else.
        UnknownNameError: If there is no adapter of that name.
    """
    config = handle.adapter_config(name)
    if isinstance(config, (LoRA, IA3)):
        values, tensors = _native(handle, name, config)
    elif isinstance(config, Peft):
        values, tensors = _of_peft(handle, name, config)
    else:
        raise CheckpointError(
            f"{name!r} is a {config.display_name} adapter, which peft does not have; save it in graftwork's format"
        )
    head = handle.head_of(name)
    tensors |= {f"{path}.{n}": t for path, module in head.items() for n, t in module.state_dict().items()}
    values |= {
        "base_model_name_or_path": getattr(getattr(handle.model, "config", None), "name_or_path", "") or None,
        "modules_to_save": sorted(head) or None,
        "task_type": next(
            (task for end, task in _TASKS.items() if type(handle.model).__name__.endswith(f"For{end}")), None
        ),
        "inference_mode": True,
    }
    files = {
        CONFIG: (json.dumps(values, indent=2, sort_keys=True) + "\n").encode(),
        TENSORS: encode({f"{_START}{n.replace(f'{_MAGNITUDE}.weight', _MAGNITUDE)}": t for n, t in tensors.items()}),
    }
    return replace_folder(folder, files, marker=CONFIG)


def _native(handle: Handle, name: str, config: LoRA | IA3) -> tuple[dict[str, Any], Tensors]:
    modules = {key: (handle.sites[key].output.module, module) for key, module in handle.modules_of(name).items()}
    paths = [path for path, _ in modules.values()]
    tensors: Tensors = {}
    for path, module in modules.values():
        tensors |= _as_in_a_file(path, module)
    values = {
        "target_modules": _targets(handle, paths),
        "fan_in_fan_out": any(is_conv1d(handle.model.get_submodule(path)) for path in paths),
    }
    if isinstance(config, IA3):
        scaled = [path for path, module in modules.values() if module.reads == "input"]
        return {**values, "peft_type": "IA3", "target_modules": sorted(paths), "feedforward_modules": scaled}, tensors
    ranks = {path: len(tensors[f"{path}.lora_A.weight"]) for path in paths}
    alphas = {path: config.alpha_at(key) for key, (path, _) in modules.items()}
    return values | {
        "peft_type": "LORA",
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rank_stabilized,
        "use_dora": isinstance(config, DoRA),
        "rank_pattern": {path: rank for path, rank in ranks.items() if rank != config.rank},
        "alpha_pattern": {path: alpha for path, alpha in alphas.items() if alpha != config.alpha},
        "bias": "none",
        "init_lora_weights": True,
    }, tensors


def _as_in_a_file(path: str, module: Any) -> Tensors:
    """The weights of an adapter at a projection by their names in peft's files, and in their shapes."""
    if hasattr(module, "factors"):
        shape = (1, -1) if module.reads == "input" else (-1, 1)
        return {f"{path}.ia3_l": module.factors.detach().view(shape)}
    names = {**_MATRICES, **({f"{_MAGNITUDE}.weight": "magnitude"} if hasattr(module, "magnitude") else {})}
    return {f"{path}.{theirs}": getattr(module, ours) for theirs, ours in names.items()}


def _targets(handle: Handle, chosen: Iterable[str]) -> list[str]:
    """Names that select exactly these modules, the last parts of their paths where these do; else the paths."""
    paths = set(chosen)
    names = sorted({path.rpartition(".")[2] for path in paths})
    found = {path for path, _ in base_modules(handle.model) if ends_in_any(path, names)}
    return names if found == paths else sorted(paths)


def _of_peft(handle: Handle, name: str, config: Peft) -> tuple[dict[str, Any], Tensors]:
    shared = handle.shared_of(name)
    assert shared is not None
    found = shared.state_dict()
    if any(key.startswith("tuner.") or not key.count(".") for key in found):
        raise CheckpointError(
            f"{name!r} (peft {config.kind}) keeps weights outside of layers; save it in graftwork's format"
        )
    values = dict(config.to_dict()["peft"])
    return values, {f"{handle.sites.prefix}{key}": tensor for key, tensor in found.items()}
