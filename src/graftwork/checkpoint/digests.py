"""What a fusion or a composition was trained over: a digest of each adapter that is not in its file.

A fusion's weights mean something over the adapters of its pool only, and in a file it names them. The digest is of an
adapter's configuration and of the values of its tensors, whatever their dtype. Neither the tensors' names take part, which
change where a version of transformers renames modules, nor heads, which no fusion sees.
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

logger = logging.getLogger(__name__)
Digests = Mapping[str, str]


def over(composition: Composition) -> tuple[str, ...]:
    """The names of the adapters, members and fusions that a composition computes with; of a fusion those of its pool."""
    inner = [fusion.name for fusion in fusions_in(composition)]
    if isinstance(composition, Learned):
        inner = inner[1:]
    return tuple(dict.fromkeys((*names_in(composition), *inner)))


def of_model(handle: Handle, names: Iterable[str]) -> dict[str, str]:
    """The digest of each of some adapters, members and fusions of a model."""
    return {name: digest(name, handle.config(name), tensors_of(handle, handle.owner_of(name))) for name in names}


def digest(name: str, config: AdapterConfig | LearnedConfig | HeadConfig, tensors: Tensors) -> str:
    """The digest of one adapter or fusion.

    Args:
        name: Its name; that of a member (``"hyper:mnli"``) leaves out what is another member's alone.
        config: The configuration of the whole adapter.
        tensors: All tensors of the adapter, as they are called in files.
    """
    mine = {key: t for key, t in tensors.items() if not key.startswith(HEAD)}
    member = parted(name)[1]
    if isinstance(config, AdapterConfig) and member in config.members:
        own = f"shared/own.{config.members.index(member)}."
        mine = {key: t for key, t in mine.items() if not key.startswith("shared/own.") or key.startswith(own)}
        config = config.with_members((member,))
    found = hashlib.sha256(json.dumps(without_starts(config.to_dict()), sort_keys=True).encode())
    for value in sorted(_digest_of(tensor) for tensor in mine.values()):
        found.update(value)
    return found.hexdigest()


def require_known(where: str, name: str, known: Digests | None, here: Digests, other_members: bool) -> None:
    """Refuse other adapters under the names of those that something was trained over.

    Args:
        where: How messages call the file.
        name: What was trained: the fusion's name, or the composition in words.
        known: The digests in the file, ``None`` in one of a version that kept none.
        here: Those of what is there now.
        other_members: Whether others will do.

    Raises:
        CheckpointError: Naming them.
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
            "fusion and its pool together), or say load(..., other_members=True)"
        )


def outside(composition: Composition, inside: Collection[str]) -> tuple[str, ...]:
    """The names that a composition needs, and its folder does not hold."""
    return tuple(name for name in over(composition) if name not in inside and parted(name)[0] not in inside)


def same_pool(one: Learned | None, other: Learned | None) -> bool:
    """Whether two pools are one; that of a `Fuse`, which has no weights of a child's own, in whatever order."""
    if isinstance(one, Fuse) and isinstance(other, Fuse) and one.options == other.options:
        return sorted(map(repr, one.children)) == sorted(map(repr, other.children))
    return one == other


def _digest_of(tensor: Tensor) -> bytes:
    """Of the shape and the values, floats of every precision as float64."""
    value = whole(tensor.detach()).cpu().contiguous()
    kind: Any = "float"
    if value.is_floating_point():
        value = value.double()
    else:
        kind = value.dtype
    start = f"{kind} {tuple(value.shape)}".encode()
    return hashlib.sha256(start + value.reshape(-1).view(torch.uint8).numpy().tobytes()).digest()
