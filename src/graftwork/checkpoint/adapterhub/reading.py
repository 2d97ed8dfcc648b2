"""Reading AdapterHub's folders onto a model: all of it, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graftwork.attach import Handle, building
from graftwork.checkpoint.adapterhub.bottlenecks import bottleneck_here
from graftwork.checkpoint.adapterhub.files import ADAPTER, INTERFACE, Part, read_part
from graftwork.checkpoint.adapterhub.projections import projections_here, projections_wanted
from graftwork.checkpoint.adapterhub.weights import RULE, bottleneck_tensors, bottleneck_wanted, by_module
from graftwork.checkpoint.folders import existing, read_json
from graftwork.checkpoint.staging import making
from graftwork.checkpoint.tensors import Tensors, fill, require_fit
from graftwork.errors import CheckpointError, ConfigError
from graftwork.methods import IA3, Bottleneck, LoRA
from graftwork.methods.invertible import InvertibleModule
from graftwork.weights.names import check_new

logger = logging.getLogger(__name__)


def load_adapterhub(handle: Handle, folder: Path, name: str | None, *, head: bool | None) -> str:
    """Add what a folder of AdapterHub's library holds; see `graftwork.Adapters.load`.

    Raises:
        CheckpointError: If it is damaged, does not fit this model, or is another function than any of ours; nothing is added then.
        NameTakenError: If the name is taken.
    """
    folder = existing(folder)
    return _load_adapter(handle, folder, name)


def _load_adapter(handle: Handle, folder: Path, name: str | None) -> str:
    part = read_part(folder, ADAPTER)
    name = part.name if name is None else name
    check_new(name, handle, "the adapter")
    where = f"{part.where} (AdapterHub's {part.name!r})"
    with making(where, part.tensors):
        _refuse_wrong_norms(folder, part.config)
        config, given = _here(part, handle)
        modules, norms = building.build(handle.model, handle.sites, config)
    by_key = {handle.sites.key_of(handle.sites.places[index]): module for index, module in modules.items()}
    require_same_function(where, handle, by_key)
    if isinstance(config, Bottleneck):
        wanted = bottleneck_wanted(config, by_key, building.shared_by(modules))
    else:
        wanted = projections_wanted(by_key)
    if RULE in wanted and RULE not in given:
        raise CheckpointError(
            f"{where} lacks the rule that its Kronecker products share: AdapterHub's library leaves it out when it saves from a "
            "model without a head; save it anew from one with a head (AutoAdapterModel)"
        )
    require_fit(wanted, given, where)
    fill(wanted, given)
    handle.register(name, config, modules, norms, None)
    return name


def _here(part: Part, handle: Handle) -> tuple[Bottleneck | LoRA | IA3, Tensors]:
    """Our configuration of the same function, and the tensors of the file by the names of ours."""
    method = part.config.get("architecture")
    if method not in (None, "lora"):
        raise ConfigError(
            f"its method is {method!r}; bottlenecks, LoRA, DoRA and (IA)³ are read from AdapterHub's files"
        )
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
