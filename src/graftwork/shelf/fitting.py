"""Whether what a folder holds fits a model, by type, sizes and names; no weight is read or compared."""

from __future__ import annotations

from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.adapterhub import other_base
from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HEAD
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.json_files import read_json
from graftwork.checkpoint.manifest import AdapterManifest, CompositionManifest, Difference, manifest_in
from graftwork.checkpoint.peft_files import TENSORS as PEFT_TENSORS
from graftwork.checkpoint.peft_files import other_layers
from graftwork.checkpoint.reading import File, other_model
from graftwork.errors import CheckpointError
from graftwork.shelf.headers import shapes_in
from graftwork.shelf.records import FolderInfo


def misfit(found: FolderInfo, handle: Handle) -> str | None:
    """Why a folder does not fit a model, as far as this is seen without its weights; ``None`` where nothing is.

    The model may be on the meta device. Whether its weights are those of the base is checked by ``load`` alone.
    """
    if found.damage is not None:
        return found.damage
    try:
        if found.format == "graftwork":
            return _ours(found.folder, handle)
        if found.format == "adapterhub":
            return _adapterhub(found, handle)
        other = other_layers(handle, shapes_in(found.folder / PEFT_TENSORS))
        return None if other is None else f"it was trained on {other}"
    except (CheckpointError, OSError) as error:
        return str(error)


def _ours(folder: Path, handle: Handle) -> str | None:
    part, digest = manifest_in(folder)
    if isinstance(part, CompositionManifest):
        places = [folder / place for place, _, _ in part.parts()]
        return next((why for place in places if (why := _ours(place, handle)) is not None), None)
    if isinstance(part, Difference):
        other = part.original.misfit(Fingerprint.of(handle, sample=False))
        return None if other is None else f"it was made over {other}"
    assert isinstance(part, AdapterManifest)
    other = other_model(handle, File(folder, part, {}, "", digest))
    return None if other is None else f"it was trained on {other}"


def _adapterhub(found: FolderInfo, handle: Handle) -> str | None:
    names = [names.config for names in (ADAPTER, FUSION, HEAD)]
    inside = [path for path in found.folder.iterdir() if path.is_dir()] if found.kind == "composition" else []
    folders = [found.folder, *sorted(inside)]
    for path in (folder / name for folder in folders for name in names):
        if path.is_file() and (other := other_base(handle, read_json(path))) is not None:
            return f"it was trained on {other}"
    return None
