"""Writing adapters, fusions and compositions."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import MANIFEST, TENSORS, dump, read_manifest, replace_folder
from graftwork.checkpoint.manifest import Difference, HeadRecord, Part, Whole, parse
from graftwork.checkpoint.tensors import HEAD, Tensors, encode, gather, has_weights
from graftwork.compose import Block, Composition, Learned, fusions_in, names_in
from graftwork.errors import CheckpointError
from graftwork.methods.members import SEPARATOR

if TYPE_CHECKING:
    from graftwork.attach import Handle


def save(handle: Handle, what: Composition, folder: Path, *, members: bool = False) -> Path:
    """Write an adapter, a fusion (by name, or as its block) or a head, or another block with everything in it.

    Raises:
        UnknownNameError: If something is not there.
        CheckpointError: If there is nothing to save, or the folder holds something else.
    """
    if isinstance(what, Learned) and not members:
        what = what.name
    elif isinstance(what, str) and members:
        what = handle.fusions.get(what, what)
    if what is None:
        raise CheckpointError("there is nothing to save in None, the plain model; give a name or a block")
    if isinstance(what, str):
        return save_part(handle, what, folder)
    if not isinstance(what, Block):
        raise CheckpointError(f"{what!r} cannot be saved; give an adapter's or a fusion's name, or a block")
    return save_composition(handle, what, folder, everything_in(handle, what))


def save_part(handle: Handle, name: str, folder: Path) -> Path:
    """Write one adapter or fusion."""
    kind = handle.kind_of(name)
    if kind == "member":
        owner = handle.owner_of(name)
        raise CheckpointError(
            f"{name!r} is a member of {owner!r} and is saved with it: save({owner!r}, …); or write it out as an adapter of its "
            f"own first: export({name!r}, …)"
        )
    files = part_files(handle, name, Fingerprint.of(handle))
    require_same(folder, kind, name)
    return replace_folder(folder, files)


def save_composition(handle: Handle, composition: Composition, folder: Path, names: Collection[str]) -> Path:
    """Write a composition and, of the adapters, fusions and heads, those of the given names."""
    adapters = tuple(n for n in handle.names if n in names)
    fusions = tuple(n for n in handle.fusions if n in names)
    heads = tuple(n for n in handle.lone_heads if n in names)
    base = Fingerprint.of(handle)
    whole = Whole(composition, adapters, fusions, heads)
    files = {MANIFEST: dump(whole.to_dict())}
    for place, _, name in whole.parts():
        files.update({f"{place}/{path}": data for path, data in part_files(handle, name, base).items()})
    require_same(folder, "composition", None)
    return replace_folder(folder, files)


def everything_in(handle: Handle, composition: Composition) -> set[str]:
    """The names of all adapters and fusions of a composition, and those that its fusions were made over."""
    found = {handle.owner_of(name) for name in names_in(composition)}
    todo = list(fusions_in(composition))
    for name in found:
        handle.config(name)
    while todo:
        fuse = todo.pop()
        if fuse.name in found:
            continue
        handle.config(fuse.name)
        found.add(fuse.name)
        pool = handle.fusions[fuse.name]
        found.update(handle.owner_of(name) for name in names_in(pool))
        todo += fusions_in(pool)[1:]
    return found


def part_files(handle: Handle, name: str, base: Fingerprint) -> dict[str, bytes]:
    """The files of one adapter, fusion or head."""
    data = encode(tensors_of(handle, name))
    part = describe(handle, name, base, hashlib.sha256(data).hexdigest())
    return {MANIFEST: dump(part.to_dict()), TENSORS[part.kind]: data}


def describe(handle: Handle, name: str, base: Fingerprint, sha256: str) -> Part:
    """What the manifest of an adapter or a fusion says.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    config = handle.config(name)
    heads = {member: _head_record(handle, full) for member, full in members(handle, name).items()}
    return Part(
        kind=handle.kind_of(name),
        name=name,
        config=config.to_dict(),
        pool=handle.fusions.get(name),
        base=base,
        sites={key: handle.sites[key].width for key, m in handle.modules_of(name).items() if has_weights(m)},
        head=_head_record(handle, name),
        sha256=sha256,
        member_heads={member: head for member, head in heads.items() if head is not None},
    )


def members(handle: Handle, name: str) -> dict[str, str]:
    """The members of an adapter, by their own names: how compositions name each."""
    return (
        dict(zip(handle._adapters[name].members, handle.members_of(name), strict=True)) if name in handle.names else {}
    )


def _head_record(handle: Handle, name: str) -> HeadRecord | None:
    labels = handle.labels(name)
    if labels is None:
        return None
    modules = {path: type(module).__name__ for path, module in handle.head_of(name).items()}
    made = handle.head_config(name)
    return HeadRecord(type(handle.model).__name__, labels, modules, None if made is None else made.to_dict())


def tensors_of(handle: Handle, name: str) -> Tensors:
    """Every tensor of an adapter or a fusion, its norms and its head included."""
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


def head_records(part: Part) -> dict[str, HeadRecord]:
    """The heads of a part: its own under ``""``, those of its members under their names."""
    return {**({} if part.head is None else {"": part.head}), **part.member_heads}


def head_owner(tensor: str, part: Part) -> str:
    """Whose head a tensor in a file is part of: that of a member, or the adapter's own (``""``)."""
    return next((m for m in part.member_heads if tensor.startswith(head_prefix(m))), "")


def require_same(folder: Path, kind: str, name: str | None) -> None:
    """Refuse to write one thing over another: a folder is replaced by what it already holds, of newer weights.

    Raises:
        CheckpointError: If the folder holds another adapter, or another kind of thing.
    """
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        return
    held = parse(read_manifest(folder), str(folder / MANIFEST))
    here = _kind_and_name(held)
    if here != (kind, name):
        what = kind if name is None else f"{kind} {name!r}"
        other = here[0] if here[1] is None else f"{here[0]} {here[1]!r}"
        raise CheckpointError(
            f"{folder} holds the {other}, not the {what}; give each a folder of its own, or delete that one"
        )


def _kind_and_name(held: Part | Whole | Difference) -> tuple[str, str | None]:
    if isinstance(held, Part):
        return held.kind, held.name
    return ("composition" if isinstance(held, Whole) else "difference of a base"), None
