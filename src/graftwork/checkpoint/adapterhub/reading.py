"""Reading AdapterHub's folders onto a model: all of it, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graftwork.attach import Handle, ModelWithHeads, building
from graftwork.attach.changes import changing
from graftwork.checkpoint.adapterhub.bottlenecks import bottleneck_here
from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HEAD, INTERFACE, SETUP, Part, read_part
from graftwork.checkpoint.adapterhub.fusions import fusion_here, fusion_tensors, pool_of
from graftwork.checkpoint.adapterhub.heads import read_head
from graftwork.checkpoint.adapterhub.places import transformer
from graftwork.checkpoint.adapterhub.prefixes import PREFIXES, add_prefix
from graftwork.checkpoint.adapterhub.projections import projections_here
from graftwork.checkpoint.adapterhub.setups import composition_here, require_same_composition, subfolder
from graftwork.checkpoint.adapterhub.weights import RULE, bottleneck_tensors, bottleneck_wanted, by_module, weights_of
from graftwork.checkpoint.folders import existing
from graftwork.checkpoint.json_files import read_json
from graftwork.checkpoint.staging import making
from graftwork.checkpoint.tensors import Tensors, fill, require_fit
from graftwork.compose import Composition, fusions_in, names_in
from graftwork.errors import CheckpointError, CompositionError, ConfigError, UnknownNameError
from graftwork.methods import IA3, Bottleneck, LoRA
from graftwork.methods.invertible import InvertibleModule
from graftwork.weights.names import check_new

# The methods that are not read, and why.
_OTHERS = {
    "prompt_tuning": "its tokens come after the norm of the embeddings and have no positions, and peft's come before",
    "reft": "the files of DiReFT and NoReFT do not say which of the two it is, and those of LoReFT are not read",
    "mtl_lora": "a LoRA with several B for several tasks has no counterpart here",
    "union": "several methods as one adapter are read from no file of theirs; save its parts as adapters of their own",
}
logger = logging.getLogger(__name__)


def load_adapterhub(handle: Handle, folder: Path, name: str | None, *, head: bool | None) -> Composition:
    """Add what a folder of AdapterHub's library holds; see `graftwork.Adapters.load`.

    Raises:
        CheckpointError: If it is damaged, does not fit this model, or is another function than any of ours; nothing is added then.
        NameTakenError: If the name is taken.
    """
    folder = existing(folder)
    if (folder / SETUP).is_file():
        if name is not None:
            raise ConfigError(f"{folder} holds several adapters, which cannot be called {name!r}; leave out name")
        return _load_setup(handle, folder, head)
    if (folder / FUSION.config).is_file():
        return _load_fusion(handle, folder, name, head)
    if (folder / ADAPTER.config).is_file():
        return _load_adapter(handle, folder, name, head)
    return _load_head(handle, folder, name)


def _load_adapter(handle: Handle, folder: Path, name: str | None, wish: bool | None) -> str:
    part = read_part(folder, ADAPTER)
    name = part.name if name is None else name
    check_new(name, handle, "the adapter")
    where = f"{part.where} (AdapterHub's {part.name!r})"
    _require_base(handle, part, where)
    if part.config.get("architecture") == "prefix_tuning":
        add_prefix(handle, name, part, by_module(part)[PREFIXES], where, read_head(handle, folder, wish))
        return name
    with making(where, part.tensors):
        _refuse_wrong_norms(folder, part.config)
        config, given = _here(part, handle)
        modules, norms = building.build(handle.model, handle.sites, config)
    by_key = {handle.sites.key_of(handle.sites.places[index]): module for index, module in modules.items()}
    require_same_function(where, handle, by_key)
    if isinstance(config, Bottleneck):
        wanted = bottleneck_wanted(config, by_key, building.shared_by(modules))
    else:
        wanted = weights_of(by_key)
    if RULE in wanted and RULE not in given:
        raise CheckpointError(
            f"{where} lacks the rule that its Kronecker products share: AdapterHub's library leaves it out unless the model has a "
            "head around its base; save it anew from such a one (AutoAdapterModel)"
        )
    require_fit(wanted, given, where)
    fill(wanted, given)
    handle.register(name, config, modules, norms, read_head(handle, folder, wish))
    return name


def other_base(handle: Handle, values: Mapping[str, Any]) -> str | None:
    """Which other base a model is than a file's, in a clause, by type and width; ``None`` where these are the same.

    The modules of two types may have the same names.
    """
    config = getattr(transformer(handle.model), "config", None)
    for key, what in (("model_type", "type"), ("hidden_size", "size")):
        there = values.get(key)
        here = getattr(config, key, there)
        if there is not None and there != here:
            return (
                f"a model of another {what}: its {key} is {there!r}, this one's {here!r}; load it on one of that {what}"
            )
    return None


def _require_base(handle: Handle, part: Part, where: str) -> None:
    other = other_base(handle, part.values)
    if other is not None:
        raise CheckpointError(f"{where} was trained on {other}")


def _load_fusion(handle: Handle, folder: Path, name: str | None, wish: bool | None) -> str:
    part = read_part(folder, FUSION)
    name = part.name if name is None else name
    check_new(name, handle, "the fusion")
    where = f"{part.where} (AdapterHub's fusion {part.name!r})"
    _require_base(handle, part, where)
    try:
        pool = pool_of(part, name)
        adapters = [str(child) for child in pool.children]
        lacking = [one for one in adapters if one not in handle.names]
        if lacking:
            raise UnknownNameError(
                f"{where} is over {adapters}, and {lacking[0]!r} is not on this model; load it first"
            )
        config = fusion_here(part.config, adapters, handle)
    except ConfigError as error:
        raise CheckpointError(f"{where} cannot be loaded: {error}") from error
    places = {key: handle.sites.place_of[key] for key in handle.modules_of(adapters[0])}
    given = fusion_tensors(part, places, handle)
    with making(where, given):
        modules = building.build_fusion(handle.model, handle.sites, places.values(), pool, config)
    wanted = weights_of({key: modules[index] for key, index in places.items()})
    require_fit(wanted, given, where)
    fill(wanted, given)
    try:
        handle.register_fusion(pool, config, modules, read_head(handle, folder, wish))
    except CompositionError as error:
        raise CheckpointError(f"{where} cannot be loaded: {error}") from error
    return name


def _load_head(handle: Handle, folder: Path, name: str | None) -> str:
    name = read_part(folder, HEAD).name if name is None else name
    if name not in handle:
        check_new(name, (), "a head")
    head = read_head(handle, folder, True)
    assert head is not None
    if not isinstance(handle.model, ModelWithHeads) and name not in handle:
        raise CheckpointError(
            f"{folder} holds a head alone; give load(..., name=...) the adapter or fusion that it is for"
        )
    handle.register_head(name, head)
    return name


def _load_setup(handle: Handle, folder: Path, wish: bool | None) -> Composition:
    values = read_json(folder / SETUP)
    added: list[str] = []
    with changing(handle):
        try:
            composition = composition_here(values.get("adapter_setup"))
            for name in dict.fromkeys(names_in(composition)):
                added.append(_load_adapter(handle, subfolder(folder, name), name, wish))
            for fusion in fusions_in(composition):
                added.append(_load_fusion(handle, subfolder(folder, fusion.name), fusion.name, wish))
            require_same_composition(composition, handle)
            handle.check(composition)
        except BaseException as error:
            for name in reversed(added):
                handle.remove(name)
            if isinstance(error, (ConfigError, CompositionError)):
                raise CheckpointError(f"{folder / SETUP} cannot be loaded: {error}") from error
            raise
    return composition


def _here(part: Part, handle: Handle) -> tuple[Bottleneck | LoRA | IA3, Tensors]:
    """Our configuration of the same function, and the tensors of the file by the names of ours."""
    method = part.config.get("architecture")
    if method not in (None, "lora"):
        raise ConfigError(f"its method is {method!r}: {_OTHERS.get(str(method), 'it is none that is known')}")
    modules = by_module(part)
    if method == "lora":
        return projections_here(part, modules["loras"], handle)
    config = bottleneck_here(part.config, handle.sites)
    return config, bottleneck_tensors(part, modules, config, handle.sites)


def _refuse_wrong_norms(folder: Path, options: Mapping[str, Any]) -> None:
    """Refuse a model that they knew by an interface with norms: every layer has the norm of the last one there."""
    if not (folder / INTERFACE).is_file() or not options.get("original_ln_before"):
        return
    interface = read_json(folder / INTERFACE)
    if interface.get("layer_ln_1") or interface.get("layer_ln_2"):
        raise ConfigError(
            "it was trained through an interface with norms, where version 1.3.0 computes each layer with the norm of the last "
            "one; no correct adapter gives the same outputs"
        )


def require_same_function(where: str, handle: Handle, modules: Mapping[str, nn.Module]) -> None:
    """Refuse what is the same configuration and not the same function on this model."""
    for key, module in modules.items():
        if handle.sites[key].scale is not None and handle.sites[key].kind != "projection":
            raise CheckpointError(
                f"{where}: the model scales what {key} adds; AdapterHub's adapters come after that factor, and these before it"
            )
        if getattr(module, "gate", None) is not None:
            if module.causal:
                raise CheckpointError(
                    f"{where}: its gate is the mean over all positions, later ones too, and this is a decoder, where a position "
                    "has a gate of its own"
                )
            logger.info("%s: its gates took the mean over padding too, which is left out here", where)
    inverses = [key for key, module in modules.items() if isinstance(module, InvertibleModule) and not module.back]
    if len(inverses) > 1:
        raise CheckpointError(
            f"{where}: its invertible adapter is at the encoder's embeddings alone, and this model has {', '.join(inverses)}"
        )
