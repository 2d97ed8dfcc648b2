"""A file made into modules and compared with the model, with nothing added to it yet."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import nn

from graftwork.attach import Handle, ModelWithHeads, OwnHead, building
from graftwork.attach.changes import changing
from graftwork.attach.model_head import resized
from graftwork.attach.named_heads import make_named_head
from graftwork.checkpoint.bounded_tensors import BoundedTensors
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import DIGEST, MANIFEST, TENSORS, existing, read_manifest, read_whole
from graftwork.checkpoint.manifest import AdapterManifest, CompositionManifest, Difference, HeadRecord, parse
from graftwork.checkpoint.naming import head_owner, head_prefix, head_records, parts
from graftwork.checkpoint.renaming import Renaming
from graftwork.checkpoint.tensors import HEAD, Tensors, decode, fill, gather, has_weights, require_fit
from graftwork.compose import Learned, LearnedConfig, config_class
from graftwork.errors import CheckpointError, GraftworkError
from graftwork.heads import HeadConfig, head_from_dict
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.methods.layers.peft_values import without_starts
from graftwork.weights.names import full_name

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class File:
    """A part as it lies on disk, read whole.

    Attributes:
        folder: Where.
        part: What its manifest says.
        tensors: Its tensors.
        sha256: The hash of the file with them.
        digest: The hash of its manifest; ``None`` where that keeps none.
        renaming: How what it says of its base is called in the model, once that is known.
    """

    folder: Path
    part: AdapterManifest
    tensors: Tensors
    sha256: str
    digest: str | None = None
    renaming: Renaming | None = None

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.folder} ({self.part.kind} {self.part.name!r})"


@dataclasses.dataclass(frozen=True)
class Staged:
    """A part ready to be added: modules and norms by their place in the map of sites, its own head (``""``) and its members'."""

    name: str
    config: AdapterConfig | LearnedConfig | HeadConfig
    pool: Learned | None
    modules: Mapping[int, nn.Module]
    norms: Mapping[int, nn.Module]
    heads: Mapping[str, OwnHead]
    file: File

    def add(self, handle: Handle) -> None:
        """Add it to the model.

        Raises:
            CheckpointError: If another library computes it, and its weights do not fit; nothing is added then.
        """
        with changing(handle):
            if isinstance(self.config, AdapterConfig) and self.config.injected:
                _inject(handle, self.name, self.config, self.file)
            if isinstance(self.config, LearnedConfig):
                assert self.pool is not None
                handle.register_fusion(self.pool, self.config, self.modules, self.heads.get(""))  # type: ignore[arg-type]
            elif isinstance(self.config, HeadConfig):
                handle.register_head(self.name, self.heads[""])
            else:
                handle.register(self.name, self.config, self.modules, self.norms, self.heads.get(""))  # type: ignore[arg-type]
                for member, head in self.heads.items():
                    if member:
                        handle.register_head(full_name(self.name, member), head)


def read(folder: Path) -> File | tuple[CompositionManifest, list[File]]:
    """A folder's manifest, and its tensors; of a composition also its parts, each fusion behind those in its pool.

    Raises:
        CheckpointError: If it is none of ours, or damaged.
    """
    return read_whole(folder, _read)


def _read(folder: Path) -> File | tuple[CompositionManifest, list[File]]:
    data = read_manifest(folder)
    found = parse(data, str(folder / MANIFEST))
    if isinstance(found, CompositionManifest):
        return found, [_read_part(folder, found, *part) for part in found.parts()]
    if isinstance(found, Difference):
        raise CheckpointError(f"{folder} holds the difference of a trained base, not an adapter; call load_base")
    path = folder / TENSORS[found.kind]
    if not path.is_file():
        raise CheckpointError(
            f"{folder} lacks {path.name}; save the {found.kind} {found.name!r} again, or copy the whole folder"
        )
    tensors = path.read_bytes()
    return File(folder, found, decode(tensors, path), hashlib.sha256(tensors).hexdigest(), data.get(DIGEST))


def _read_part(folder: Path, whole: CompositionManifest, place: str, kind: str, name: str) -> File:
    file = _read(existing(folder / place))
    if not isinstance(file, File) or (file.part.kind, file.part.name) != (kind, name):
        raise CheckpointError(f"{folder / place} does not hold the {kind} {name!r}, as {folder / MANIFEST} says")
    if whole.contents is not None and whole.contents.get(place) != file.digest:
        raise CheckpointError(
            f"{folder / place} is not the {kind} {name!r} that {folder / MANIFEST} was written with; copy both from one save"
        )
    return file


def require_intact(file: File) -> None:
    """Refuse tensors that are not those the manifest was written with.

    Raises:
        CheckpointError: If they are not.
    """
    if file.sha256 != file.part.sha256:
        path = file.folder / TENSORS[file.part.kind]
        raise CheckpointError(
            f"{path} is not the file that {MANIFEST} beside it was written with; copy both from one save"
        )


def on_base(handle: Handle, file: File, other_base: bool) -> File:
    """A file with the names that the base's modules have in this model, where it is the base that the part was trained on.

    Raises:
        CheckpointError: If it is another; names what differs.
    """
    file = as_here(handle, file)
    base = file.part.base
    found = base.differences(Fingerprint.of(handle, sample=False))
    keys = {handle.sites.key_of(site): site.width for site in handle.sites.places}
    lacking = [key for key in file.part.sites if key not in keys]
    if lacking:
        found.append(f"it stands at {', '.join(lacking[:3])}{' …' if len(lacking) > 3 else ''}, which this one lacks")
    wide = [f"{k} is {w} wide in its base, {keys[k]} here" for k, w in file.part.sites.items() if keys.get(k, w) != w]
    found += wide[:3]
    here = type(handle.model).__name__
    if found:
        raise CheckpointError(
            f"{file.where} was trained on another base ({base.model_class}) than {here}: {'; '.join(found)}"
        )
    if not other_base and not base.samples and Fingerprint.of(handle).samples:
        raise CheckpointError(
            f"{file.where}: no weight of its base is known, so that it cannot be told whether this is it; say load(..., "
            "other_base=True) if it is"
        )
    changed = [] if other_base else base.changed_weights(handle)
    if changed:
        raise CheckpointError(
            f"{file.where} was trained on another revision of the base: {len(changed)} of {len(base.samples)} sampled "
            f"weights differ, such as {changed[0]!r}; if its base was trained with it, load the base's difference first "
            "(load_base), else load it on the weights it was trained on, or say load(..., other_base=True)"
        )
    return file


def as_here(handle: Handle, file: File) -> File:
    """A file with the names that the base's modules have in this model."""
    renaming = file.part.base.renaming(handle)
    if not renaming.changes:
        return file
    changed = {
        "base": file.part.base.renamed(renaming),
        "config": renaming.data(file.part.config),
        "pool": None if file.part.pool is None else renaming.composition(file.part.pool),
        "sites": {renaming.layer(key): width for key, width in file.part.sites.items()},
    }
    tensors = {renaming.tensor(name): tensor for name, tensor in file.tensors.items()}
    return dataclasses.replace(file, part=file.part.model_copy(update=changed), tensors=tensors, renaming=renaming)


def stage(
    handle: Handle, file: File, name: str, present: Collection[int] | None, *, head: bool | None, other_base: bool
) -> Staged:
    """The modules of a file, filled with its tensors.

    Args:
        handle: The model's.
        file: What was read.
        name: The name to add it under.
        present: For a fusion the places where its pool stands.
        head: As `load` is given it.
        other_base: As `load` is given it.

    Raises:
        CheckpointError: If anything does not fit.
    """
    file = on_base(handle, file, other_base)
    try:
        with torch.random.fork_rng(devices=[]), BoundedTensors(file.where, file.tensors):
            return _stage(handle, file, name, present, head)
    except CheckpointError:
        raise
    except (GraftworkError, TypeError, ValueError, KeyError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{file.where} cannot be loaded: {error}") from error


def config_of(part: AdapterManifest) -> AdapterConfig | LearnedConfig | HeadConfig:
    """The configuration of a part.

    Raises:
        GraftworkError: If it, or an option of it, is not known or refused.
    """
    if part.pool is not None:
        return config_class(part.pool).from_dict(part.config)
    return head_from_dict(part.config) if part.kind == "head" else config_from_dict(without_starts(part.config))


def _stage(handle: Handle, file: File, name: str, present: Collection[int] | None, head: bool | None) -> Staged:
    model, sites, part = handle.model, handle.sites, file.part
    config = config_of(part)
    modules: Mapping[int, nn.Module] = {}
    norms: dict[int, nn.Module] = {}
    pool = None
    theirs: tuple[str, ...] = ()
    if isinstance(config, LearnedConfig):
        assert part.pool is not None
        pool = type(part.pool)(*part.pool.children, **{**part.pool.options, "name": name})
        modules = building.build_fusion(model, sites, present or (), pool, config)
    elif isinstance(config, HeadConfig):
        head = True
    else:
        theirs = _injected_names(config)
        modules, norms = building.build(model, sites, config)
    keys = [sites.key_of(site) for site in sites.places]
    _require_sites(file, {keys[index] for index, module in modules.items() if has_weights(module)})
    chosen = _heads(handle, file, head)
    paths = {sites.norms[index].removeprefix(sites.prefix): norm for index, norm in norms.items()}
    by_key = {keys[index]: m for index, m in modules.items()}
    heads = {member: one.modules for member, one in chosen.items()}
    named = parts(by_key, paths, heads, building.shared_by(modules, norms))
    given = {k: t for k, t in file.tensors.items() if not k.startswith(HEAD) or head_owner(k, part) in chosen}
    if theirs:  # these weights are made and filled in the model itself
        given = {k: t for k, t in given.items() if not k.startswith(theirs)}
    wanted = gather(named)
    require_fit(wanted, given, file.where)
    require_intact(file)
    fill(wanted, given)
    for tensor in wanted.values():
        tensor.requires_grad_(False)  # what is loaded is fixed until train_only says otherwise
    return Staged(name, config, pool, modules, norms, chosen, file)


def _inject(handle: Handle, name: str, config: AdapterConfig, file: File) -> None:
    """Have another library put its own into the model, with the weights of a file; in no part where they do not fit."""
    try:
        with torch.random.fork_rng(devices=[]), BoundedTensors(file.where, file.tensors):
            made = handle.inject(name, config)
        assert made is not None
        wanted = gather({"shared": made})
        given = {k: t for k, t in file.tensors.items() if k.startswith(_injected_names(config))}
        require_fit(wanted, given, file.where)
        fill(wanted, given)
    except BaseException as error:
        handle.discard(name)
        if isinstance(error, GraftworkError) and not isinstance(error, CheckpointError):
            raise CheckpointError(f"{file.where} cannot be loaded: {error}") from error
        raise


def _injected_names(config: AdapterConfig) -> tuple[str, ...]:
    """What the names of those tensors in a file begin with that another library computes with."""
    return tuple(f"shared/{part}" for part in config.injected)


def _require_sites(file: File, here: set[str]) -> None:
    """Refuse a part that would stand elsewhere than it did."""
    there = set(file.part.sites)
    if there != here:
        only = [
            f"{', '.join(sorted(keys)[:3])} only {where}"
            for keys, where in ((there - here, "in the file"), (here - there, "here"))
            if keys
        ]
        why = (
            "its pool's adapters stand elsewhere than those it was trained over"
            if file.part.pool
            else "it would stand elsewhere"
        )
        raise CheckpointError(f"{file.where}: {why}: {'; '.join(only)}")


def _heads(handle: Handle, file: File, wish: bool | None) -> dict[str, OwnHead]:
    """The heads of a file, its own (``""``) and its members', filled later; without those that are left aside.

    Raises:
        CheckpointError: If they are asked for and cannot be had.
    """
    records = head_records(file.part)
    if wish and not records:
        raise CheckpointError(f"{file.where} has no head; leave out head=True")
    found = {m: _head(handle, file, m, record, wish) for m, record in records.items()} if wish is not False else {}
    return {member: head for member, head in found.items() if head is not None}


def _head(handle: Handle, file: File, member: str, record: HeadRecord, wish: bool | None) -> OwnHead | None:
    here = type(handle.model).__name__
    if record.config is not None and isinstance(handle.model, ModelWithHeads):
        return make_named_head(handle, head_from_dict(record.config))
    if wish is None and (not handle.head_paths or record.model_class != here):
        level = logging.WARNING if handle.head_paths else logging.INFO
        logger.log(
            level, "%s: its head is that of a %s and is left aside on a %s", file.where, record.model_class, here
        )
        return None
    if set(record.modules) != set(handle.head_paths):
        raise CheckpointError(
            f"{file.where}: its head is {list(record.modules)} of a {record.model_class}, that of {here} is "
            f"{list(handle.head_paths)}; say load(..., head=False) to leave it aside"
        )
    return OwnHead(_copied_head(handle, file, member, record), record.labels)


def _copied_head(handle: Handle, file: File, member: str, record: HeadRecord) -> dict[str, nn.Module]:
    """A copy of the model's own head with the sizes of the file's."""
    own = {path: handle.model.get_submodule(path) for path in handle.head_paths}
    modules = building.copy_head(handle.model, own)
    other = [
        f"{path} is a {record.modules[path]}, not a {type(m).__name__}"
        for path, m in modules.items()
        if record.modules[path] != type(m).__name__
    ]
    if other:
        raise CheckpointError(
            f"{file.where}: its head was made of modules of its own: {'; '.join(other)}; say load(..., head=False) and "
            f"give the module to add_head({file.part.name!r}, module)"
        )
    wanted = gather({f"{head_prefix(member)}{path}": m for path, m in modules.items()})
    if any(name in file.tensors and file.tensors[name].shape != t.shape for name, t in wanted.items()):
        resized(handle.model, modules, record.labels)
    return modules
