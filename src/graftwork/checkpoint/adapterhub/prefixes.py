"""Prefix tuning of AdapterHub as peft's, and back: the network that makes keys and values is the same, tensor for tensor.

Theirs has one prefix for an encoder, and three for an encoder-decoder: the encoder's, the decoder's, and the cross-attention's.
Where a prefix moves positions it is another function: in a model of one causal stack those of the text begin at 0 there, and go on
from the prefix here; in T5 it counts in the distances between tokens there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graftwork.attach import Handle
from graftwork.attach.changes import changing
from graftwork.checkpoint.adapterhub.files import Part
from graftwork.checkpoint.adapterhub.places import transformer
from graftwork.checkpoint.staging import making
from graftwork.checkpoint.tensors import Tensors, fill, require_fit
from graftwork.errors import CheckpointError, ConfigError
from graftwork.forward.causality import causal_at
from graftwork.methods import Peft

PREFIXES = "prefix_tunings"
_DEFAULTS: dict[str, Any] = {
    **{"architecture": "prefix_tuning", "encoder_prefix": True, "cross_prefix": True, "leave_out": [], "flat": False},
    **{"prefix_length": 30, "bottleneck_size": 512, "non_linearity": "tanh", "dropout": 0.0, "use_gating": False},
    **{"shared_gating": True, "init_weights_seed": None},
}
_OTHER = re.compile(r"^self\.")  # as DistilBERT has it
_NAMES = {"embedding.weight": "wte.weight"}
_NAMES |= {f"transform.{n}.{one}": f"control_trans.{n}.{one}" for n in (0, 2) for one in ("weight", "bias")}


def prefix_here(options: Mapping[str, Any], handle: Handle) -> Peft:
    """Peft's configuration of the same function.

    Raises:
        ConfigError: If it has none.
    """
    unknown = [key for key, value in options.items() if key not in _DEFAULTS and value]
    if unknown:
        raise ConfigError(f"the option {unknown[0]}={options[unknown[0]]!r} is not known")
    their = {**_DEFAULTS, **{key: value for key, value in options.items() if value is not None}}
    _require_no_positions(handle)
    for option in ("leave_out", "dropout", "use_gating"):
        if their[option]:
            raise ConfigError(f"a prefix with {option}={their[option]!r} is none of peft's")
    if len(handle.sites.numbers) > 1 and not (their["encoder_prefix"] and their["cross_prefix"]):
        raise ConfigError("an encoder-decoder has a prefix at all its attentions here")
    values: dict[str, Any] = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": their["prefix_length"]}
    if not their["flat"]:
        if str(their["non_linearity"]).lower() != "tanh":
            raise ConfigError(f"peft's prefix has tanh inside, and this one {their['non_linearity']!r}")
        values |= {"prefix_projection": True, "encoder_hidden_size": their["bottleneck_size"]}
    return Peft(peft=values)


def _require_no_positions(handle: Handle) -> None:
    """Refuse a model where a prefix moves positions, here or there."""
    site = next(iter(handle.sites), None)
    if getattr(getattr(transformer(handle.model), "config", None), "model_type", None) in ("t5", "mt5"):
        raise ConfigError(
            "in T5 the tokens of the prefix count in the distances between those of the text there, and not here"
        )
    if site is not None and len(handle.sites.numbers) == 1 and causal_at(handle.model, site):
        raise ConfigError(
            "in a decoder the positions of the text begin at 0 there, and go on from those of the prefix here"
        )


def add_prefix(handle: Handle, name: str, part: Part, modules: Mapping[str, Tensors], where: str, head: Any) -> None:
    """Add a prefix with the weights of a file.

    Raises:
        CheckpointError: If they do not fit, or it is another function; nothing is added then.
    """
    first = next(iter(sorted(modules, key=len)), None)  # the others are the same tensors again, for each layer
    given = {} if first is None else {_OTHER.sub("self_prefix.", key): t for key, t in modules[first].items()}
    with making(where, given), changing(handle):
        config = prefix_here(part.config, handle)
        made = handle.inject(name, config)
    try:
        assert made is not None
        state = made.state_dict(keep_vars=True)
        wanted = {_name_there(key, flat=_is_flat(state)): tensor for key, tensor in state.items()}
        if _is_flat(state):
            given = {
                key: t.view(len(wanted[key]), -1) if _divides(wanted.get(key), t) else t for key, t in given.items()
            }
        require_fit(wanted, given, where)
        fill(wanted, given)
        handle.register(name, config, {}, {}, head)
    except BaseException:
        handle.discard(name)
        raise


def prefix_there(config: Peft, name: str, handle: Handle) -> tuple[dict[str, Any], Tensors]:
    """Their options and tensors for the same function.

    Raises:
        ConfigError: If theirs has no such function.
    """
    if config.kind != "prefix_tuning" or config.gate:
        raise ConfigError(f"{config.display_name} has no counterpart there that is written here")
    _require_no_positions(handle)
    shared = handle.shared_of(name)
    assert shared is not None
    made = shared.state_dict()
    found: dict[str, Tensor] = {}
    for key, tensor in made.items():
        their = _name_there(key, flat=_is_flat(made))
        their = their.replace("self_prefix.", "self.") if "distilbert" in handle.sites.model_class.lower() else their
        found[f"prefix_tuning.{PREFIXES}.{name}.{their}"] = tensor.reshape(-1) if _is_flat(made) else tensor
    options = _DEFAULTS | {"prefix_length": config.peft.num_virtual_tokens, "flat": _is_flat(made)}
    hidden = [len(tensor) for key, tensor in made.items() if key.endswith("transform.0.weight")]
    return options | ({"bottleneck_size": hidden[0]} if hidden else {}), found


def _divides(wanted: Tensor | None, given: Tensor) -> bool:
    """Whether the values of a tensor make as many rows as another has."""
    return wanted is not None and given.numel() % len(wanted) == 0


def _is_flat(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys and values are the weights themselves."""
    return all(key.endswith("embedding.weight") for key in state)


def _name_there(key: str, *, flat: bool) -> str:
    """Their name of one of the tensors of peft's encoders, ``"prompt.decoder_layers_attention.embedding.weight"``.

    Raises:
        CheckpointError: If it is none.
    """
    inside = key.removeprefix("prompt.")
    ours = next((name for name in _NAMES if inside.endswith(name)), None)
    if ours is None:
        raise CheckpointError(f"{key!r} is no tensor of a prefix")
    group = inside.removesuffix(ours)
    location = "cross" if "cross_attention" in group else "encoder" if group.startswith("encoder") else "self"
    return f"{location}_prefix.{'control_trans' if flat else _NAMES[ours]}"
