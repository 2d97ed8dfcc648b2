"""A configuration of peft as one of ours, where the two are the same function.

peft's LoRA is made of modules around the base's. Ours reads and writes at the projections as every other adapter does, so that
it can be weighed, routed and given to some rows. What `LoRA` has no option for stays with peft's own modules.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from graftwork.methods import DoRA, LoRA
from graftwork.methods.layers.projection_config import ends_in_any
from graftwork.sites import SiteMap, is_conv1d
from graftwork.weights.holder import base_modules

# What our form says in options of its own, and what says nothing of the function; all else has to be as it is by default.
_SAID = (
    "r lora_alpha lora_dropout use_rslora use_dora rank_pattern alpha_pattern init_lora_weights target_modules exclude_modules "
    "layers_to_transform layers_pattern fan_in_fan_out modules_to_save"
).split()
_ASIDE = "task_type peft_type auto_mapping base_model_name_or_path revision inference_mode peft_version runtime_config".split()
_INITS = {True: "kaiming", "gaussian": "gaussian"}


def native_config(config: Any, model: nn.Module, sites: SiteMap, head_paths: Iterable[str]) -> LoRA | None:
    """The `LoRA` that makes the same adapter as a configuration of peft; ``None`` where there is none.

    Args:
        config: The configuration of peft.
        model: The model, whose modules the configuration selects.
        sites: Its sites.
        head_paths: The modules of its head: each adapter has one of its own, as ``modules_to_save`` asks for.
    """
    if type(config).__name__ != "LoraConfig" or config.init_lora_weights not in (True, "gaussian"):
        return None
    default = type(config)()
    others = [f.name for f in dataclasses.fields(config) if f.name not in (*_SAID, *_ASIDE)]
    if any(getattr(config, name) != getattr(default, name) for name in others):
        return None
    if not is_the_head(config.modules_to_save, model, head_paths):
        return None
    keys = {site.output.module: sites.key_of(site) for site in sites.projections}
    try:
        chosen = _chosen(config, model)
        if not chosen or not set(chosen) <= set(keys):
            return None
        rank = {keys[path]: _by_pattern(config.rank_pattern, path, config.r) for path in chosen}
        alpha = {keys[path]: _by_pattern(config.alpha_pattern, path, config.lora_alpha) for path in chosen}
    except re.error:  # no pattern: peft says so
        return None
    names = tuple(dict.fromkeys(path.rpartition(".")[2] for path in chosen))
    named = {key for key in keys.values() if ends_in_any(key, names)}
    return (DoRA if config.use_dora else LoRA)(
        targets=names if named == set(rank) else tuple(rank),
        rank=config.r,
        alpha=config.lora_alpha,
        rank_pattern={key: int(r) for key, r in rank.items() if r != config.r},
        alpha_pattern={key: a for key, a in alpha.items() if a != config.lora_alpha},
        rank_stabilized=config.use_rslora,
        dropout=config.lora_dropout,
        a_init=_INITS[config.init_lora_weights],
    )


def is_the_head(names: Iterable[str] | None, model: nn.Module, head_paths: Iterable[str]) -> bool:
    """Whether the modules that an option ``modules_to_save`` names are the model's head, as far as it has them."""
    paths = [path for path, _ in base_modules(model) if ends_in_any(path, names or ())]
    return {path.partition(".")[0] for path in paths} <= set(head_paths)


def _by_pattern(patterns: Mapping[str, float], path: str, default: float) -> float:
    """The number of the first pattern that matches the end of a path, as peft looks it up."""
    return next((number for key, number in patterns.items() if re.match(rf"(.*\.)?({key})$", path)), default)


def _chosen(config: Any, model: nn.Module) -> list[str]:
    """The paths of the modules that peft puts LoRA around; nothing where it knows no targets for the model."""
    modules = dict(base_modules(model))
    targets = config.target_modules
    if targets is None:
        from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known

        targets = known.get(getattr(getattr(model, "config", None), "model_type", None), ())
    elif isinstance(targets, str) and targets.lower() == "all-linear":
        embeddings: Any = getattr(model, "get_output_embeddings", None)
        output = None if embeddings is None else embeddings()
        linear = {path for path, m in modules.items() if isinstance(m, nn.Linear) or is_conv1d(m)}
        targets = {path for path in linear if modules[path] is not output}
    return [path for path in modules if path and _matches(config, targets, path)]


def _matches(config: Any, targets: Any, path: str) -> bool:
    if config.exclude_modules and _named(config.exclude_modules, path):
        return False
    if any(re.match(rf"(^|.*\.){name}($|\..*)", path) for name in config.modules_to_save or ()):
        return False
    if not _named(targets, path):
        return False
    layers = config.layers_to_transform
    if isinstance(targets, str) or layers in (None, []):
        return True
    given = config.layers_pattern or ()
    patterns = [rf"(?:^|.*?\.){one}\.(\d+)\." for one in ([given] if isinstance(given, str) else given)]
    found = (re.match(pattern, path) for pattern in patterns or [r".*?\.[^.]*\.(\d+)\."])
    number = next((match[1] for match in found if match), None)
    return number is not None and int(number) in ([layers] if isinstance(layers, int) else layers)


def _named(names: Any, path: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return ends_in_any(path, names)
