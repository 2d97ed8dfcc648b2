"""What the tensors of an adapter, a fusion or a head are called in a file, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from graftwork.attach import Handle
from graftwork.checkpoint.manifest import AdapterManifest, HeadRecord
from graftwork.checkpoint.tensors import HEAD, Tensors, gather
from graftwork.methods.layers.members import SEPARATOR
from graftwork.weights.holder import reclaim


def members(handle: Handle, name: str) -> dict[str, str]:
    """The members of an adapter, by their own names: how compositions name each."""
    return (
        dict(zip(handle.adapter_config(name).members, handle.members_of(name), strict=True))
        if name in handle.names
        else {}
    )


def tensors_of(handle: Handle, name: str) -> Tensors:
    """Every tensor of an adapter or a fusion, its norms and its head included."""
    reclaim(handle.model)
    norms = handle.norms_of(name) if name in handle.names else {}
    heads = {"": handle.head_of(name), **{m: handle.head_of(full) for m, full in members(handle, name).items()}}
    return gather(parts(handle.modules_of(name), norms, heads, handle.shared_of(name)))


def parts(
    modules: Mapping[str, nn.Module],
    norms: Mapping[str, nn.Module],
    heads: Mapping[str, Mapping[str, nn.Module]],
    shared: nn.Module | None,
) -> dict[str, nn.Module]:
    """Modules by site, norms by path, heads, what the sites share, under the names they have in a file.

    A head is its modules by path; the adapter's own has the key ``""``, those of members have their names.
    """
    return {
        **({} if shared is None else {"shared": shared}),
        **modules,
        **{f"norms/{path}": module for path, module in norms.items()},
        **{f"{head_prefix(m)}{path}": module for m, head in heads.items() for path, module in head.items()},
    }


def head_prefix(member: str) -> str:
    """What the tensors of a head begin with in a file: the adapter's own (``""``), or that of a member."""
    return f"{HEAD}{SEPARATOR}{member}/" if member else HEAD


def head_records(part: AdapterManifest) -> dict[str, HeadRecord]:
    """The heads of a part: its own under ``""``, those of its members under their names."""
    return {**({} if part.head is None else {"": part.head}), **part.member_heads}


def head_owner(tensor: str, part: AdapterManifest) -> str:
    """Whose head a tensor in a file is part of: that of a member, or the adapter's own (``""``)."""
    return next((m for m in part.member_heads if tensor.startswith(head_prefix(m))), "")
