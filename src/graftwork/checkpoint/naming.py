"""The names of the tensors of an adapter, a fusion or a head in a file, and what they belong to."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from graftwork.attach import Handle
from graftwork.checkpoint.manifest import AdapterManifest, HeadRecord
from graftwork.checkpoint.tensors import HEAD, Tensors, gather
from graftwork.methods.layers.members import SEPARATOR
from graftwork.weights.holder import reclaim
from graftwork.weights.names import full_name


def members(handle: Handle, name: str) -> dict[str, str]:
    """The members of an adapter: each member's name, and its name in compositions (``"hyper:mnli"``)."""
    found = handle.adapter_config(name).members if name in handle.names else ()
    return {member: full_name(name, member) for member in found}


def tensors_of(handle: Handle, name: str) -> Tensors:
    """The tensors of an adapter or a fusion by their names in a file, with its norms and heads."""
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
    """The modules by site key, norms by path, heads and what the sites share, under their names in a file.

    A head is its modules by path; the adapter's own is under ``""``, its members' under their names.
    """
    return {
        **({} if shared is None else {"shared": shared}),
        **modules,
        **{f"norms/{path}": module for path, module in norms.items()},
        **{f"{head_prefix(m)}{path}": module for m, head in heads.items() for path, module in head.items()},
    }


def head_prefix(member: str) -> str:
    """How the names of a head's tensors begin in a file; ``member`` is ``""`` for the adapter's own head."""
    return f"{HEAD}{SEPARATOR}{member}/" if member else HEAD


def head_records(part: AdapterManifest) -> dict[str, HeadRecord]:
    """The heads of a part: its own under ``""``, its members' under their names."""
    return {**({} if part.head is None else {"": part.head}), **part.member_heads}


def head_owner(tensor: str, part: AdapterManifest) -> str:
    """The member whose head a tensor in a file belongs to; ``""`` where it is the adapter's own head."""
    return next((m for m in part.member_heads if tensor.startswith(head_prefix(m))), "")


def head_name(part: str, member: str) -> str:
    """The name that the model has for a head of a part: its own (``""``), or that of a member."""
    return full_name(part, member) if member else part
