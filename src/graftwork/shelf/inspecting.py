"""`inspect`: what a folder holds, from its JSON and the headers of its tensors."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graftwork.checkpoint import format_of
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import TENSORS
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.checkpoint.manifest import (
    AdapterManifest,
    CompositionManifest,
    HeadRecord,
    manifest_in,
    refused_where_too_deep,
    title,
)
from graftwork.checkpoint.naming import head_records
from graftwork.checkpoint.tensors import HEAD
from graftwork.errors import CheckpointError
from graftwork.shelf import runs
from graftwork.shelf.foreign import of_adapterhub, of_peft
from graftwork.shelf.headers import Shapes, shapes_in, weights_in
from graftwork.shelf.records import BaseInfo, FolderInfo, HeadInfo, History


def inspect(folder: Path) -> FolderInfo:
    """What a folder holds, in any format, or a run; no module is built, and of safetensors only the header is read.

    Raises:
        CheckpointError: If it holds nothing that is known, is damaged, or says something that its tensors do not bear out.
    """
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is not there"
            raise CheckpointError(f"{folder} {what}; give the folder of an adapter, or of a run")
        folder = folder.resolve()
        if runs.is_run(folder):
            return _run(folder)
        with refused_where_too_deep(folder):
            return _saved(folder)
    except OSError as error:
        raise CheckpointError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:  # a lying file may say anything
        raise CheckpointError(f"{folder} is damaged: {error}") from error


def damaged(folder: Path, why: str) -> FolderInfo:
    """The record of a folder that cannot be used."""
    return FolderInfo(folder=folder, kind="damaged", name=folder.name, damage=why)


def _saved(folder: Path) -> FolderInfo:
    found = format_of(folder)
    if found is None:
        raise CheckpointError(
            f"{folder} holds no adapter, fusion, composition, head or difference of a base, and is no run"
        )
    values = {"graftwork": _ours, "adapterhub": of_adapterhub, "peft": of_peft}[found](folder)
    run = runs.run_around(folder)
    if run is not None:
        history = runs.history_in(run, folder).model_copy(update={"written_by": values["history"].written_by})
        base = values["base"].model_copy(update={"name": values["base"].name or runs.base_of(run)})
        values |= {"history": history, "base": base}
    # the parts of a composition are one or two folders below it; what is below an adapter is not part of it
    patterns = ("*", "*/*", "*/*/*") if values["kind"] == "composition" else ("*",)
    files = [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return FolderInfo(folder=folder, format=found, **values, **_sizes(files))


def _sizes(files: Iterable[Path]) -> dict[str, Any]:
    stats = [path.stat() for path in files]
    newest = max((stat.st_mtime for stat in stats), default=0.0)
    when = datetime.datetime.fromtimestamp(newest, datetime.timezone.utc)
    return {"bytes": sum(stat.st_size for stat in stats), "modified": when}


def _ours(folder: Path) -> dict[str, Any]:
    """What a folder of ours says; a part's manifest is held against the names of its tensors."""
    found, _ = manifest_in(folder)
    written_by = History(written_by=f"graftwork {found.graftwork}")
    if isinstance(found, CompositionManifest):
        return _composition(folder, found) | {"history": written_by}
    if isinstance(found, AdapterManifest):
        return _part(folder, found) | {"history": written_by}
    shapes = shapes_in(folder / TENSORS["base"])
    if shapes.keys() != set(found.tensors):
        raise CheckpointError(
            f"{folder / MANIFEST} names other tensors than {TENSORS['base']} has; copy both from one save"
        )
    values = {"kind": "base", "name": folder.name, "method": "difference", "base": _base(found.original)}
    return {**values, "weights": weights_in(shapes), "history": written_by}


def _composition(folder: Path, whole: CompositionManifest) -> dict[str, Any]:
    parts = []
    for place, kind, name in whole.parts():
        part, _ = manifest_in(folder / place)
        if not isinstance(part, AdapterManifest) or (part.kind, part.name) != (kind, name):
            raise CheckpointError(
                f"{folder / place} holds the {title(part)}, not the {kind} {name!r} that {MANIFEST} says"
            )
        parts.append(_part(folder / place, part))
    return {
        "kind": "composition",
        "name": folder.name,
        "method": "composition",
        "options": {"composition": repr(whole.composition)},
        "members": tuple(part["name"] for part in parts),
        "base": parts[0]["base"] if parts else BaseInfo(),
        "weights": sum(part["weights"] for part in parts),
        "head_weights": sum(part["head_weights"] for part in parts),
        "heads": tuple(head for part in parts for head in part["heads"]),
    }


def _part(folder: Path, part: AdapterManifest) -> dict[str, Any]:
    shapes = shapes_in(folder / TENSORS[part.kind])
    _require_same_sites(folder, part, shapes)
    heads = {name: shape for name, shape in shapes.items() if name.startswith(HEAD)}
    method = part.config.get("method") or part.config.get("head")
    return {
        "kind": part.kind,
        "name": part.name,
        "method": str(method) if part.pool is None else part.pool.kind,
        "options": {key: value for key, value in part.config.items() if key != "method"},
        "members": () if part.pool is None else tuple(map(str, part.pool.children)),
        "base": _base(part.base),
        "weights": weights_in(shapes) - weights_in(heads),
        "head_weights": weights_in(heads),
        "heads": tuple(_head(member, record) for member, record in head_records(part).items()),
    }


def _require_same_sites(folder: Path, part: AdapterManifest, shapes: Shapes) -> None:
    """Refuse a manifest whose sites are not those that have tensors."""
    starts = {name.partition("/")[0] for name in shapes} - {"shared", "norms", "head"}
    unlike = sorted(starts ^ part.sites.keys())
    if unlike:
        where = "its tensors" if unlike[0] in starts else f"its {MANIFEST}"
        raise CheckpointError(f"{folder} is damaged: the site {unlike[0]!r} is in {where} only; copy the folder again")


def _head(member: str, record: HeadRecord) -> HeadInfo:
    kind = record.model_class if record.config is None else str(record.config.get("head"))
    return HeadInfo(kind=kind, labels=record.names, member=member)


def _base(base: Fingerprint) -> BaseInfo:
    return BaseInfo(model_type=base.model_type, model_class=base.model_class, stacks=base.stacks)


def _run(folder: Path) -> FolderInfo:
    units = runs.unit_folders(folder)
    done = tuple(name for name, is_done in units.items() if is_done)
    return FolderInfo(
        folder=folder,
        format="graftwork",
        kind="run",
        name=folder.name,
        method=f"{len(done)} of {len(units)} trainings done",
        members=done,
        base=BaseInfo(name=runs.base_of(folder)),
        **_sizes(path for path in folder.rglob("*") if path.is_file()),
    )
