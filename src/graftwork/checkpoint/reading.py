"""An adapter, a fusion, a head or a composition as it is on disk, and whether its base is the model's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import TENSORS, existing, read_whole
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.checkpoint.manifest import AdapterManifest, CompositionManifest, Difference, manifest_in, title
from graftwork.checkpoint.renaming import Renaming, telling
from graftwork.checkpoint.tensors import Tensors, read_tensors
from graftwork.errors import CheckpointError
from graftwork.weights.sharded import class_name


@dataclasses.dataclass(frozen=True)
class File:
    """An adapter, a fusion or a head as it is on disk, read whole.

    Attributes:
        folder: Its folder.
        part: Its manifest.
        tensors: Its tensors.
        sha256: The hash of the file with the tensors.
        digest: The hash of the manifest; ``None`` where it has none.
        renaming: From its names of the base's modules to the model's, where they differ.
    """

    folder: Path
    part: AdapterManifest
    tensors: Tensors
    sha256: str
    digest: str | None = None
    renaming: Renaming | None = None

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f"{self.folder} ({title(self.part)})"

    def require_intact(self) -> None:
        """Refuse tensors that are not those the manifest was written with."""
        require_written_with(self.folder / TENSORS[self.part.kind], self.sha256, self.part.sha256)


def read(folder: Path) -> File | tuple[CompositionManifest, list[File]]:
    """Return what a folder holds; of a composition the manifest and its parts, each fusion after those in its pool.

    Raises:
        CheckpointError: If `save` did not write it, or it is damaged.
    """
    return read_whole(folder, _read)


def _read(folder: Path) -> File | tuple[CompositionManifest, list[File]]:
    found, digest = manifest_in(folder)
    if isinstance(found, CompositionManifest):
        return found, [_read_part(folder, found, *part) for part in found.parts()]
    if isinstance(found, Difference):
        raise CheckpointError(f"{folder} holds the difference of a trained base, not an adapter; call load_base")
    return File(folder, found, *read_tensors(folder / TENSORS[found.kind]), digest)


def _read_part(folder: Path, whole: CompositionManifest, place: str, kind: str, name: str) -> File:
    file = _read(existing(folder / place))
    if not isinstance(file, File) or (file.part.kind, file.part.name) != (kind, name):
        raise CheckpointError(f"{folder / place} does not hold the {kind} {name!r}, as {folder / MANIFEST} says")
    if whole.contents is not None and whole.contents.get(place) != file.digest:
        raise CheckpointError(
            f"{folder / place} is not the {kind} {name!r} that {folder / MANIFEST} was written with; copy both from one save"
        )
    return file


def require_written_with(path: Path, sha256: str, known: str) -> None:
    """Refuse a file of tensors whose hash is not the one in the manifest."""
    if sha256 != known:
        raise CheckpointError(
            f"{path} is not the file that {MANIFEST} next to it was written with; copy both from one save"
        )


def on_base(handle: Handle, file: File, other_base: bool) -> File:
    """Return a file with the model's names of the base's modules; refuse it if it was trained on another base."""
    file = as_here(handle, file)
    base = file.part.base
    other = other_model(handle, file)
    if other is not None:
        raise CheckpointError(f"{file.where} was trained on {other}")
    if other_base:
        return file
    if not base.samples and Fingerprint.of(handle).samples:
        raise CheckpointError(
            f"{file.where}: no weight of its base is known, so that it cannot be compared with this one; give load(..., "
            "other_base=True) if it is the same"
        )
    changed = base.changed_weights(handle)
    if changed:
        raise CheckpointError(f"{file.where} was trained on another revision of the base: {_revision(base, changed)}")
    return file


def other_model(handle: Handle, file: File) -> str | None:
    """Which other base a model is than a file's, in a clause, by type, sizes and sites; ``None`` where these are the same."""
    file = as_here(handle, file)
    return file.part.base.misfit(Fingerprint.of(handle, sample=False)) or _other_sites(handle, file)


def _other_sites(handle: Handle, file: File) -> str | None:
    """Which other model this one is by its sites, in a clause: they depend on the class of a model, not only on its size."""
    base, here = file.part.base, class_name(handle.model)
    widths = {handle.sites.key_of(site): site.width for site in handle.sites.places}
    lacking = [key for key in file.part.sites if key not in widths]
    wide = [
        f"{k} is {w} wide in its base, {widths[k]} here" for k, w in file.part.sites.items() if widths.get(k, w) != w
    ]
    if lacking:
        what = f"its sites {', '.join(lacking[:3])}{' …' if len(lacking) > 3 else ''} are not in this {here}"
        return f"a {base.model_type!r} model of the same size and another class: {what}; load it on one that has them"
    if wide:
        return f"a {base.model_type!r} model of another size: {'; '.join(wide[:3])}; load it on one of that size"
    return None


def _revision(base: Fingerprint, changed: Sequence[str]) -> str:
    """What differs in a model of the same type and size, and the way out."""
    if {name for name, sample in base.samples.items() if telling(sample)} <= set(changed):
        which = "so that the whole of it was trained, or these are the weights of another model"
    else:
        which = f"such as {changed[0]!r}, so that a part of it was trained"
    return (
        f"{len(changed)} of {len(base.samples)} sampled weights differ, {which}; type and size are the same; if its base "
        "was trained with it, load the base's difference first (load_base), else load it on the weights it was trained on, or "
        "give load(..., other_base=True)"
    )


def as_here(handle: Handle, file: File) -> File:
    """Return a file with the model's names of the base's modules."""
    part = file.part
    renaming = part.base.renaming(handle)
    if not renaming.changes:
        return file
    changed = {
        "base": part.base.renamed(renaming),
        "config": renaming.data(part.config),
        "pool": None if part.pool is None else renaming.composition(part.pool),
        "sites": {renaming.layer(key): width for key, width in part.sites.items()},
    }
    tensors = {renaming.tensor(name): tensor for name, tensor in file.tensors.items()}
    return dataclasses.replace(file, part=part.model_copy(update=changed), tensors=tensors, renaming=renaming)
