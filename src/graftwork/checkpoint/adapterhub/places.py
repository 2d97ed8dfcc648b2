"""Where their modules are: a path in their names to a site of ours, by stack, layer and location, and layers by their numbers.

They call the places in a layer by the location's name, or by the module that adds to the stream, whichever a model's code has. The
last names are read, so that a file fits a model whose modules are called otherwise in another version of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from graftwork.attach import ModelWithHeads
from graftwork.errors import ConfigError
from graftwork.sites import SiteMap

_LOCATIONS = {
    "attention_adapters": "attention",
    "attention.output": "attention",
    "cross_attention_adapters": "cross_attention",
    "crossattention.output": "cross_attention",
    "output_adapters": "feed_forward",
    "output.output_adapters": "feed_forward",
    "output": "feed_forward",
}
_ROLES = {
    "q": ("query", "query_proj", "q_proj", "q_lin", "q"),
    "k": ("key", "key_proj", "k_proj", "k_lin", "k"),
    "v": ("value", "value_proj", "v_proj", "v_lin", "v"),
    "qkv": ("c_attn",),
    "intermediate": ("intermediate.dense", "fc1", "lin1", "c_fc", "wi", "wi_1", "up_proj"),
    "output": ("output.dense", "fc2", "lin2", "mlp.c_proj", "wo", "down_proj"),
}
_IN_LAYER = re.compile(r"(?P<stack>.*?)(?:^|\.)(?P<layer>\d+)\.(?P<inside>.+)")


def transformer(model: nn.Module) -> Any:
    """The model of transformers, which a `ModelWithHeads` is around, or which is the model itself."""
    return model.base if isinstance(model, ModelWithHeads) else model


def site_of(path: str, sites: SiteMap) -> str | None:
    """The key of the site that has the adapters of one of their modules; ``None`` where there is none.

    Args:
        path: The path of the module, without ``adapters.NAME`` at its end: ``"bert.encoder.layer.0.output"``.
        sites: The sites of the model.
    """
    found = _IN_LAYER.fullmatch(path)
    if found is None:
        return None
    decoder = "decoder" in found["stack"].split(".")
    kind = _LOCATIONS.get(found["inside"])
    if kind is None and (number := re.fullmatch(r"layer\.([012])", found["inside"])):  # T5 numbers what is in a block
        kind = ("attention", "cross_attention" if decoder else "feed_forward", "feed_forward")[int(number[1])]
    stack = stack_of(decoder, sites)
    key = f"{stack}.{found['layer']}.{kind}"
    return key if stack is not None and key in sites else None


def stack_of(decoder: bool, sites: SiteMap) -> str | None:
    """The path of the stack of layers that is, or is not, the decoder; the only one where there is one."""
    stacks = [stack.removeprefix(sites.prefix) for stack in sites.numbers]
    if len(stacks) > 1:
        stacks = [stack for stack in stacks if ("decoder" in stack.split(".")) == decoder]
    return stacks[0] if len(stacks) == 1 else None


def numbered(sites: SiteMap) -> list[str]:
    """The layers in the order of their numbers: those of the encoder, then those of the decoder, as ``"encoder.block.0"``."""
    return [
        f"{stack.removeprefix(sites.prefix)}.{layer}" for stack, layers in sites.numbers.items() for layer in layers
    ]


def layers_here(layers: Any, sites: SiteMap) -> list[int | str]:
    """Their list of layers as ours: their numbers go on in the decoder, ours begin again; what the model lacks is left out."""
    names = numbered(sites)
    chosen = [n for n in layers or () if type(n) is int and 0 <= n < len(names)]
    return [_layer(n, names, sites) for n in chosen]


def by_layer_here(values: Mapping[str, Any], sites: SiteMap) -> dict[int | str, Any]:
    """Their mapping from the number of a layer, or ``"default"``, as ours."""
    names = numbered(sites)
    found: dict[int | str, Any] = {key: value for key, value in values.items() if key == "default"}
    for key, value in values.items():
        if key.isdecimal() and int(key) < len(names):
            found[_layer(int(key), names, sites)] = value
    return found


def _layer(number: int, names: list[str], sites: SiteMap) -> int | str:
    return int(names[number].rpartition(".")[2]) if len(sites.numbers) == 1 else names[number]


def projection_of(path: str, sites: SiteMap) -> str | None:
    """The key of the projection that is one of their linear modules, by its path or its role; ``None`` if there is none."""
    keys = {sites.key_of(site): site for site in sites.projections}
    parts = path.split(".")
    exact = next((inside for n in range(len(parts)) if (inside := ".".join(parts[n:])) in keys), None)
    found, role = _IN_LAYER.fullmatch(path), role_of(path)
    if exact is not None or found is None or role is None:
        return exact
    layer = f"{stack_of('decoder' in found['stack'].split('.'), sites)}.{found['layer']}."
    same = [key for key in keys if key.startswith(layer) and role_of(key) == role]
    return same[0] if len(same) == 1 else None


def role_of(path: str) -> str | None:
    """What a linear module is for: ``"q"``, ``"k"``, ``"v"``, ``"qkv"``, ``"intermediate"`` or ``"output"`` of the feed-forward."""
    if path.endswith("attention.output.dense"):
        return None
    return next((role for role, ends in _ROLES.items() if any(f".{path}".endswith(f".{end}") for end in ends)), None)


# -- writing: the paths that their library and transformers 4.57 have, whatever version is here ----------------------------

_IN_BERT = {"attention": "attention.output", "cross_attention": "crossattention.output", "feed_forward": "output"}
_NAMED = {kind: name for name, kind in _LOCATIONS.items() if name.endswith("_adapters") and "." not in name}
_IN_VIT = {**_NAMED, "feed_forward": "output.output_adapters"}
_VIT_PROJECTIONS = {
    **{role: f"attention.attention.{name}" for role, name in (("q", "query"), ("k", "key"), ("v", "value"))},
    **{"intermediate": "intermediate.dense", "output": "output.dense"},
}
_BERTS = ("bert", "roberta", "xlm-roberta", "electra", "deberta", "deberta-v2")
_LAYOUTS = {
    **dict.fromkeys(_BERTS, ("encoder.layer", _IN_BERT)),
    **dict.fromkeys(("llama", "mistral"), ("layers", _NAMED)),
    **dict.fromkeys(("bart", "mbart", "plbart"), ("{side}.layers", _NAMED)),
    **dict.fromkeys(("t5", "mt5"), ("{side}.block", {})),
    **{"distilbert": ("transformer.layer", _NAMED), "gpt2": ("h", _NAMED), "vit": ("encoder.layer", _IN_VIT)},
}


def path_there(key: str, sites: SiteMap, model_type: str) -> str:
    """The path of their module for one of our sites, inside the base model.

    Raises:
        ConfigError: If the names that their library has for this type of model are not known here.
    """
    site = sites[key]
    if model_type not in _LAYOUTS:
        raise ConfigError(
            f"where AdapterHub's library puts adapters in a {model_type!r} is not known here; it is for {sorted(_LAYOUTS)}"
        )
    stack, kinds = _LAYOUTS[model_type]
    decoder = "decoder" in site.stack.split(".")
    layer = f"{stack.format(side='decoder' if decoder else 'encoder')}.{site.layer}"
    if site.kind == "projection":
        role = role_of(key)
        if model_type == "vit" and role is not None:
            return f"{layer}.{_VIT_PROJECTIONS[role]}"
        return site.output.module.removeprefix(sites.prefix)
    if not kinds:  # T5 numbers them
        order = ("attention", *(("cross_attention",) if decoder else ()), "feed_forward")
        return f"{layer}.layer.{order.index(site.kind)}"
    return f"{layer}.{kinds[site.kind]}"


def left_out(keys: Iterable[str], kinds: Collection[str], sites: SiteMap) -> list[int]:
    """The numbers, as theirs, of the layers without an adapter.

    Args:
        keys: Our sites that have an adapter.
        kinds: The kinds of these sites.
        sites: The sites of the model.

    Raises:
        ConfigError: If a layer has an adapter at some of these kinds of sites and not at others.
    """
    present = set(keys)
    left = []
    for number, layer in enumerate(numbered(sites)):
        there = {
            sites.key_of(site)
            for site in sites
            if sites.key_of(site).rpartition(".")[0] == layer and site.kind in kinds
        }
        if not there & present:
            left.append(number)
        elif not there <= present:
            raise ConfigError(
                f"{layer} has the adapter at some of its sites only, which AdapterHub's options cannot say"
            )
    return left


def factors_there(sizes: Mapping[str, int], sites: SiteMap) -> float | dict[str, float]:
    """The reduction factor, or one for each layer by its number there, that gives bottlenecks of these sizes at our sites."""
    names = numbered(sites)
    found = {names.index(key.rpartition(".")[0]): _factor(sites[key].width, size) for key, size in sizes.items()}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return {str(number): factor for number, factor in found.items()}


def _factor(width: int, size: int) -> float:
    """A number by which the width is divided, rounded down, for that size."""
    return width // size if width % size == 0 else width / (size + 0.5)
