"""A configuration of peft as one of ours, where the two are the same function.

peft's LoRA and (IA)³ are made of modules around the base's. Ours read and write at the projections as every other adapter does, so
that they can be weighed, routed and given to some rows. What ours have no option for stays with peft's own modules.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from graftwork.methods import IA3, DoRA, LoRA
from graftwork.methods.layers.projection_config import ends_in_any
from graftwork.sites import SiteMap, is_conv1d
from graftwork.weights.holder import base_modules

# What our form says in options of its own, and what says nothing of the function; all else has to be as it is by default.
_WHERE = "target_modules exclude_modules layers_to_transform layers_pattern fan_in_fan_out modules_to_save".split()
_SAID = {
    "LoraConfig": "r lora_alpha lora_dropout use_rslora use_dora rank_pattern alpha_pattern init_lora_weights".split(),
    "IA3Config": ["feedforward_modules"],
}
_ASIDE = "task_type peft_type auto_mapping base_model_name_or_path revision inference_mode peft_version runtime_config".split()
_INITS = {True: "kaiming", "gaussian": "gaussian"}


def native_config(config: Any, model: nn.Module, sites: SiteMap, head_paths: Iterable[str]) -> LoRA | IA3 | None:
    """The configuration of ours that makes the same adapter as one of peft; ``None`` where there is none.

    Args:
        config: The configuration of peft.
        model: The model, whose modules the configuration selects.
        sites: Its sites.
        head_paths: The modules of its head: each adapter has one of its own, as ``modules_to_save`` asks for.
    """
    kind = type(config).__name__
    if kind not in _SAID or (kind == "LoraConfig" and config.init_lora_weights not in (True, "gaussian")):
        return None
    default = type(config)()
    others = [f.name for f in dataclasses.fields(config) if f.name not in (*_SAID[kind], *_WHERE, *_ASIDE)]
    if any(getattr(config, name) != getattr(default, name) for name in others):
        return None
    if not is_the_head(config.modules_to_save, model, head_paths):
        return None
    keys = {site.output.module: sites.key_of(site) for site in sites.projections}
    try:
        chosen = {path: keys.get(path) for path in _chosen(config, model)}
        if not chosen or None in chosen.values():
            return None
        return (_lora if kind == "LoraConfig" else _ia3)(config, model, chosen, tuple(keys.values()))  # type: ignore[arg-type]
    except re.error:  # no pattern: peft says so
        return None


def _lora(config: Any, model: nn.Module, chosen: Mapping[str, str], known: Iterable[str]) -> LoRA:
    rank = {key: int(_by_pattern(config.rank_pattern, path, config.r)) for path, key in chosen.items()}
    alpha = {key: _by_pattern(config.alpha_pattern, path, config.lora_alpha) for path, key in chosen.items()}
    return (DoRA if config.use_dora else LoRA)(
        targets=names_of(chosen, chosen.values(), known),
        rank=config.r,
        alpha=config.lora_alpha,
        rank_pattern={key: r for key, r in rank.items() if r != config.r},
        alpha_pattern={key: a for key, a in alpha.items() if a != config.lora_alpha},
        rank_stabilized=config.use_rslora,
        dropout=config.lora_dropout,
        a_init=_INITS[config.init_lora_weights],
    )


def _ia3(config: Any, model: nn.Module, chosen: Mapping[str, str], known: Iterable[str]) -> IA3:
    named = config.feedforward_modules
    if named is None:
        from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as table

        named = table.get(_model_type(model), ())
    # peft looks at how the path ends, whether or not that is a whole name
    scaled = {
        path: key
        for path, key in chosen.items()
        if (re.fullmatch(named, path) if isinstance(named, str) else path.endswith(tuple(named)))
    }
    return IA3(targets=names_of(chosen, chosen.values(), known), feedforward=names_of(scaled, scaled.values(), known))


def names_of(paths: Iterable[str], keys: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Names that select exactly these projections: the last parts of their paths where these do, else the paths."""
    names = tuple(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    return names if {key for key in known if ends_in_any(key, names)} == set(keys) else tuple(keys)


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
        from peft import utils

        method = "IA3" if type(config).__name__ == "IA3Config" else "LORA"
        targets = getattr(utils, f"TRANSFORMERS_MODELS_TO_{method}_TARGET_MODULES_MAPPING").get(_model_type(model), ())
    elif isinstance(targets, str) and targets.lower() == "all-linear":
        embeddings: Any = getattr(model, "get_output_embeddings", None)
        output = None if embeddings is None else embeddings()
        linear = {path for path, m in modules.items() if isinstance(m, nn.Linear) or is_conv1d(m)}
        targets = {path for path in linear if modules[path] is not output}
    return [path for path in modules if path and _matches(config, targets, path)]


def _model_type(model: nn.Module) -> Any:
    return getattr(getattr(model, "config", None), "model_type", None)


def _matches(config: Any, targets: Any, path: str) -> bool:
    if config.exclude_modules and _named(config.exclude_modules, path):
        return False
    if any(re.match(rf"(^|.*\.){name}($|\..*)", path) for name in config.modules_to_save or ()):
        return False
    if not _named(targets, path):
        return False
    layers = getattr(config, "layers_to_transform", None)
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
