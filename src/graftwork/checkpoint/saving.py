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
from graftwork.checkpoint.folders import TENSORS, replace_folder
from graftwork.checkpoint.json_files import DIGEST, MANIFEST, dump
from graftwork.checkpoint.manifest import (
    AdapterManifest,
    AnyManifest,
    CompositionManifest,
    HeadRecord,
    manifest_in,
    refused_where_too_deep,
    title,
)
from graftwork.checkpoint.naming import members, tensors_of
from graftwork.checkpoint.tensors import encode, has_weights
from graftwork.compose import Block, Composition, Learned, fusions_in, names_in
from graftwork.errors import CheckpointError
from graftwork.weights.sharded import class_name


def save(handle: Handle, what: Composition, folder: Path, *, members: bool = False) -> Path:
    """Write an adapter, a fusion, a head or a composition; see `graftwork.Adapters.save`."""
    if isinstance(what, Learned) and not members:
        what = what.name
    elif isinstance(what, str) and members:
        what = handle.fusions.get(what, what)
    if what is None:
        raise CheckpointError("there is nothing to save in None, the plain model; give a name or a block")
    if isinstance(what, Block):
        return save_composition(handle, what, folder, everything_in(handle, what))
    if not isinstance(what, str):
        raise CheckpointError(f"{what!r} cannot be saved; give an adapter's or a fusion's name, or a block")
    if handle.kind_of(what) == "member":
        owner = handle.owner_of(what)
        raise CheckpointError(
            f"{what!r} is a member of {owner!r} and is saved with it: save({owner!r}, …); or write it out as an adapter of its "
            f"own first: materialize({what!r}, …)"
        )
    part, files = _part(handle, what, Fingerprint.of(handle))
    require_same(folder, part)
    return replace_folder(folder, files)


def save_composition(handle: Handle, composition: Composition, folder: Path, names: Collection[str]) -> Path:
    """Write a composition and the adapters, fusions and heads of the given names."""
    known = {"adapters": handle.names, "fusions": handle.fusions, "heads": handle.lone_heads}
    inside: dict[str, Any] = {kind: tuple(n for n in there if n in names) for kind, there in known.items()}
    outside = digests.outside(composition, (*inside["adapters"], *inside["fusions"]))
    members = digests.of_model(handle, outside) or None
    whole = CompositionManifest(composition=composition, **inside, members=members)
    base = Fingerprint.of(handle)
    files, contents = {}, {}
    for place, _, name in whole.parts():
        _, part = _part(handle, name, base)
        files.update({f"{place}/{path}": data for path, data in part.items()})
        contents[place] = json.loads(part[MANIFEST])[DIGEST]
    files[MANIFEST] = dump(whole.model_copy(update={"contents": contents}).to_dict())
    require_same(folder, whole)
    return replace_folder(folder, files)


def everything_in(handle: Handle, composition: Composition) -> set[str]:
    """Return the names of all adapters and fusions of a composition, with those in the pools of its fusions."""
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


def _part(handle: Handle, name: str, base: Fingerprint) -> tuple[AdapterManifest, dict[str, bytes]]:
    """Return the manifest of an adapter, a fusion or a head, and its files."""
    data = encode(tensors_of(handle, name))
    config = handle.config(name)
    pool = handle.fusions.get(name)
    try:
        heads = {member: _head_record(handle, full) for member, full in members(handle, name).items()}
        part = AdapterManifest(
            kind=handle.kind_of(name),  # type: ignore[arg-type]  # a member is refused
            name=name,
            config=config.to_dict(),
            pool=pool,
            base=base,
            sites={key: handle.sites[key].width for key, m in handle.modules_of(name).items() if has_weights(m)},
            head=_head_record(handle, name),
            sha256=hashlib.sha256(data).hexdigest(),
            member_heads={member: head for member, head in heads.items() if head is not None},
            members=None if pool is None else digests.of_model(handle, digests.over(pool)),
        )
    except ValidationError as error:
        key, what = error.errors()[0]["loc"][0], error.errors()[0]["input"]
        raise CheckpointError(
            f"{name!r} cannot be saved: {what!r:.80} among its {key} could not be read again; give text"
        ) from error
    return part, {MANIFEST: dump(part.to_dict()), TENSORS[part.kind]: data}


def _head_record(handle: Handle, name: str) -> HeadRecord | None:
    labels = handle.labels(name)
    if labels is None:
        return None
    config = handle.head_config(name)
    return HeadRecord(
        model_class=class_name(handle.model),
        labels=labels.names,
        problem_type=labels.problem_type,
        modules={path: type(module).__name__ for path, module in handle.head_of(name).items()},
        config=None if config is None else config.to_dict(),
    )


def require_same(folder: Path, new: AnyManifest) -> None:
    """Refuse to replace a folder that holds something else than what is saved."""
    if not (folder / MANIFEST).is_file():
        return
    with refused_where_too_deep(folder):
        held, _ = manifest_in(folder)
    if title(held) != title(new):
        raise CheckpointError(
            f"{folder} holds the {title(held)}, not the {title(new)}; give each a folder of its own, or delete that one"
        )
