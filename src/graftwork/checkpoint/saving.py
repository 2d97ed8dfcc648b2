"""Writing adapters, fusions and compositions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.attach import Handle
from graftwork.checkpoint import digests
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import DIGEST, MANIFEST, TENSORS, dump, read_manifest, replace_folder
from graftwork.checkpoint.manifest import (
    AdapterManifest,
    CompositionManifest,
    Difference,
    HeadRecord,
    parse,
    refused_where_too_deep,
)
from graftwork.checkpoint.naming import members, tensors_of
from graftwork.checkpoint.tensors import encode, has_weights
from graftwork.compose import Block, Composition, Learned, fusions_in, names_in
from graftwork.errors import CheckpointError


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
    known = {"adapters": handle.names, "fusions": handle.fusions, "heads": handle.lone_heads}
    inside: dict[str, Any] = {kind: tuple(n for n in there if n in names) for kind, there in known.items()}
    outside = digests.outside(composition, (*inside["adapters"], *inside["fusions"]))
    members = digests.of_model(handle, outside) or None
    whole = CompositionManifest(composition=composition, **inside, members=members)
    base = Fingerprint.of(handle)
    files, contents = {}, {}
    for place, _, name in whole.parts():
        part = part_files(handle, name, base)
        files.update({f"{place}/{path}": data for path, data in part.items()})
        contents[place] = json.loads(part[MANIFEST])[DIGEST]
    files[MANIFEST] = dump(whole.model_copy(update={"contents": contents}).to_dict())
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


def describe(handle: Handle, name: str, base: Fingerprint, sha256: str) -> AdapterManifest:
    """What the manifest of an adapter or a fusion says.

    Raises:
        UnknownNameError: If there is none of that name.
        CheckpointError: If something of it could not be read again, such as labels that are no text.
    """
    config = handle.config(name)
    pool = handle.fusions.get(name)
    try:
        heads = {member: _head_record(handle, full) for member, full in members(handle, name).items()}
        return AdapterManifest(
            kind=handle.kind_of(name),  # type: ignore[arg-type]  # a member is refused
            name=name,
            config=config.to_dict(),
            pool=pool,
            base=base,
            sites={key: handle.sites[key].width for key, m in handle.modules_of(name).items() if has_weights(m)},
            head=_head_record(handle, name),
            sha256=sha256,
            member_heads={member: head for member, head in heads.items() if head is not None},
            members=None if pool is None else digests.of_model(handle, digests.over(pool)),
        )
    except ValidationError as error:
        key, what = error.errors()[0]["loc"][0], error.errors()[0]["input"]
        raise CheckpointError(
            f"{name!r} cannot be saved: {what!r:.80} among its {key} could not be read again; give text"
        ) from error


def _head_record(handle: Handle, name: str) -> HeadRecord | None:
    labels = handle.labels(name)
    if labels is None:
        return None
    modules = {path: type(module).__name__ for path, module in handle.head_of(name).items()}
    made, model_class = handle.head_config(name), type(handle.model).__name__
    config, kind = None if made is None else made.to_dict(), labels.problem_type
    return HeadRecord(model_class=model_class, labels=labels.names, problem_type=kind, modules=modules, config=config)


def require_same(folder: Path, kind: str, name: str | None) -> None:
    """Refuse to write one thing over another: a folder is replaced by what it already holds, of newer weights.

    Raises:
        CheckpointError: If the folder holds another adapter, or another kind of thing.
    """
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        return
    with refused_where_too_deep(folder):
        held = parse(read_manifest(folder), str(folder / MANIFEST))
    here = _kind_and_name(held)
    if here != (kind, name):
        what = kind if name is None else f"{kind} {name!r}"
        other = here[0] if here[1] is None else f"{here[0]} {here[1]!r}"
        raise CheckpointError(
            f"{folder} holds the {other}, not the {what}; give each a folder of its own, or delete that one"
        )


def _kind_and_name(held: AdapterManifest | CompositionManifest | Difference) -> tuple[str, str | None]:
    if isinstance(held, AdapterManifest):
        return held.kind, held.name
    return ("composition" if isinstance(held, CompositionManifest) else "difference of a base"), None
