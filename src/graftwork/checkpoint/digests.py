"""The adapters that a fusion or a composition was trained over: a digest of each that is not in its file.

A fusion's weights fit only the adapters of its pool, which its file has by name alone. The digest is of an adapter's configuration
and of the values of its tensors, whatever their dtype. It leaves out the tensors' names, which change where a version of
transformers renames modules, and heads, which are no part of a fusion's input.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from graftwork.attach import Handle
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.tensors import HEAD, Tensors
from graftwork.compose import Composition, Fuse, Learned, LearnedConfig, fusions_in, names_in
from graftwork.errors import CheckpointError
from graftwork.heads import HeadConfig
from graftwork.methods import AdapterConfig
from graftwork.methods.layers.peft_values import without_starts
from graftwork.weights.names import parted
from graftwork.weights.samples import whole

# Options that came after files with digests, and their defaults.
_LATER: dict[str, Any] = {"down_bias": True}
_NOTHING = object()
logger = logging.getLogger(__name__)


def over(composition: Composition) -> tuple[str, ...]:
    """The names of the adapters, members and fusions in a composition; of a fusion, of those in its pool."""
    fusions = [fusion.name for fusion in fusions_in(composition)]
    inner = fusions[1:] if isinstance(composition, Learned) else fusions
    return tuple(dict.fromkeys((*names_in(composition), *inner)))


def of_model(handle: Handle, names: Iterable[str]) -> dict[str, str]:
    """The digest of each of some adapters, members and fusions of a model."""
    return {name: digest(name, handle.config(name), tensors_of(handle, handle.owner_of(name))) for name in names}


def digest(name: str, config: AdapterConfig | LearnedConfig | HeadConfig, tensors: Tensors) -> str:
    """The digest of one adapter, fusion or head.

    For a member (``"hyper:mnli"``), ``config`` and ``tensors`` are those of the whole adapter; what only other members have is
    left out.
    """
    included = {key: t for key, t in tensors.items() if not key.startswith(HEAD)}
    member = parted(name)[1]
    if isinstance(config, AdapterConfig) and member in config.members:
        own = f"shared/own.{config.members.index(member)}."
        included = {key: t for key, t in included.items() if not key.startswith("shared/own.") or key.startswith(own)}
        config = config.with_members((member,))
    options = _without_later(without_starts(config.to_dict()))
    found = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for value in sorted(_digest_of(tensor) for tensor in included.values()):
        found.update(value)
    return found.hexdigest()


def _without_later(data: Any) -> Any:
    """JSON values of a configuration without options that files of before do not have, where they are as they were then."""
    if isinstance(data, Mapping):
        return {key: _without_later(value) for key, value in data.items() if _LATER.get(key, _NOTHING) != value}
    return [_without_later(value) for value in data] if isinstance(data, (list, tuple)) else data


def require_known(
    where: str, name: str, known: Mapping[str, str] | None, here: Mapping[str, str], other_members: bool
) -> None:
    """Refuse other adapters under the names of those that a fusion or a composition was trained over.

    ``known`` are the digests in the file, ``None`` in a file of a version that wrote none; ``here`` are those on the model.
    """
    if known is None:
        if here:
            logger.warning(
                "%s was saved by a version that did not note which adapters %s was trained over; whether they are these "
                "(%s) cannot be told. Save it again from a model that has the right ones, and it is checked from then on",
                where,
                name,
                ", ".join(map(repr, here)),
            )
        return
    unlike = [member for member, value in here.items() if known.get(member) != value]
    if unlike and not other_members:
        raise CheckpointError(
            f"{where}: {name} was trained over other adapters than those that are here as {', '.join(map(repr, unlike))}: "
            "their weights or options differ. Load the ones that it was trained over (save(..., members=True) keeps a "
            "fusion and its pool together), or give load(..., other_members=True)"
        )


def outside(composition: Composition, inside: Collection[str]) -> tuple[str, ...]:
    """The names that a composition needs and that are not ``inside`` its folder."""
    return tuple(name for name in over(composition) if name not in inside and parted(name)[0] not in inside)


def same_pool(one: Learned | None, other: Learned | None) -> bool:
    """Whether two pools are the same; in any order for a `Fuse`, which has no weights for a single child."""
    if isinstance(one, Fuse) and isinstance(other, Fuse) and one.options == other.options:
        return sorted(map(repr, one.children)) == sorted(map(repr, other.children))
    return one == other


def _digest_of(tensor: Tensor) -> bytes:
    """The digest of a tensor's shape and values, floats of every precision as float64."""
    value = whole(tensor.detach()).cpu().contiguous()
    is_float = value.is_floating_point()
    start = f"{'float' if is_float else value.dtype} {tuple(value.shape)}".encode()
    value = value.double() if is_float else value
    return hashlib.sha256(start + value.reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
