"""Reading what `save` wrote: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from graftwork.attach.members import full_name
from graftwork.attach.names import check_new, parted
from graftwork.checkpoint.folders import MANIFEST, existing
from graftwork.checkpoint.manifest import HeadRecord, Part, Whole
from graftwork.checkpoint.saving import head_owner, head_records, tensors_of
from graftwork.checkpoint.staging import File, Staged, read, require_base, require_intact, stage
from graftwork.checkpoint.tensors import HEAD, Tensors, equal, require_fit
from graftwork.compose import Composition, fusions_in, names_in
from graftwork.errors import CheckpointError, ConfigError, UnknownNameError

if TYPE_CHECKING:
    from graftwork.attach import Handle


def load(
    handle: Handle, folder: Path, name: str | None = None, *, head: bool | None = None, other_base: bool = False
) -> Composition:
    """Add what a folder holds to a model; see `graftwork.Adapters.load`."""
    folder = existing(folder)
    found = read(folder)
    if isinstance(found, Whole):
        if name is not None:
            raise ConfigError(
                f"{folder} holds a composition of several adapters, which cannot be called {name!r}; leave out name"
            )
        return _load_whole(handle, folder, found, head, other_base)
    chosen = found.part.name if name is None else name
    check_new(chosen, handle.taken, f"the {found.part.kind}")
    stage_one(handle, found, chosen, {}, head, other_base).add(handle)
    return chosen


def matched(
    handle: Handle, folder: Path, names: Collection[str], *, other_base: bool = False
) -> list[tuple[File, Tensors]]:
    """The parts of a composition folder, each with the tensors of the model that it can be written into.

    Args:
        handle: The model's.
        folder: The folder.
        names: The adapters and fusions that it has to hold, no others.
        other_base: As `load` is given it.

    Raises:
        UnknownNameError: If one of them is not on the model.
        CheckpointError: If it is configured otherwise, does not fit, or the folder is damaged or holds others.
    """
    folder = existing(folder)
    whole = read(folder)
    if not isinstance(whole, Whole):
        raise CheckpointError(
            f"{folder} holds the {whole.part.kind} {whole.part.name!r}, not a composition; use load()"
        )
    found = []
    for file in _files(folder, whole):
        name = file.part.name
        if name not in handle.parts:
            raise UnknownNameError(f"{file.where} is not on this model; add it, as when the training began, and resume")
        if not _same_making(handle, file):
            raise CheckpointError(f"{file.where} is configured otherwise than the {name!r} that is on this model")
        require_base(handle, file, other_base)
        wanted = tensors_of(handle, name)
        require_fit(wanted, file.tensors, file.where)
        require_intact(file)
        found.append((file, wanted))
    if {file.part.name for file, _ in found} != set(names):
        here = [file.part.name for file, _ in found]
        raise CheckpointError(
            f"{folder} holds {here}, and {list(names)} learn now; call train_only as when the training began"
        )
    return found


def stage_one(
    handle: Handle, file: File, name: str, staged: dict[str, Staged], head: bool | None, other_base: bool
) -> Staged:
    """One part staged; a fusion finds its pool on the model or among what is staged already.

    Raises:
        UnknownNameError: If an adapter or a fusion of its pool is nowhere.
        CheckpointError: If it does not fit.
    """
    if file.part.pool is None:
        return stage(handle, file, name, None, head=head, other_base=other_base)
    inner = [f.name for f in fusions_in(file.part.pool)[1:]]
    _require_members(handle, file.where, (*names_in(file.part.pool), *inner), staged)
    present: set[int] = set()
    places = {handle.sites.key_of(site): n for n, site in enumerate(handle.sites)}
    for member in names_in(file.part.pool):
        adapter = _staged_owner(member, staged)
        if adapter in staged:
            present |= set(staged[adapter].modules)
        else:
            present |= {places[key] for key in handle.modules_of(member)}
    return stage(handle, file, name, present, head=head, other_base=other_base)


def _load_whole(handle: Handle, folder: Path, whole: Whole, head: bool | None, other_base: bool) -> Composition:
    staged: dict[str, Staged] = {}
    for file in _files(folder, whole):
        name = file.part.name
        if name in handle.parts:
            _require_identical(handle, file)
            continue
        check_new(name, staged, f"the {file.part.kind}")
        staged[name] = stage_one(handle, file, name, staged, head, other_base)
    needed = (*names_in(whole.composition), *(f.name for f in fusions_in(whole.composition)))
    _require_members(handle, str(folder), needed, staged)
    added: list[str] = []
    try:
        for name, one in staged.items():
            one.add(handle)
            added.append(name)
        with handle.using(whole.composition, head=None):
            pass
    except BaseException:
        for name in reversed(added):
            handle.remove(name)
        raise
    return whole.composition


def _files(folder: Path, whole: Whole) -> list[File]:
    """The parts of a composition, each fusion behind those in its pool."""
    files = []
    for place, kind, name in whole.parts():
        file = read(folder / place)
        if not isinstance(file, File) or (file.part.kind, file.part.name) != (kind, name):
            raise CheckpointError(f"{folder / place} does not hold the {kind} {name!r}, as {folder / MANIFEST} says")
        files.append(file)
    return files


def _require_members(handle: Handle, where: str, names: Iterable[str], staged: Collection[str]) -> None:
    known = {*handle.names, *handle.members, *handle.fusions, *staged}
    lacking = [n for n in dict.fromkeys(names) if n not in known and _staged_owner(n, staged) not in staged]
    if lacking:
        raise UnknownNameError(
            f"{where} needs {', '.join(map(repr, lacking))}, which the model does not have; load or add it under that "
            "name first (save(fuse, folder, members=True) keeps a fusion and its pool together)"
        )


def _staged_owner(name: str, staged: Collection[str]) -> str:
    """The adapter that a member belongs to, where it is among what is staged; every other name itself."""
    adapter, _ = parted(name)
    return adapter if name not in staged and adapter in staged else name


def _require_identical(handle: Handle, file: File) -> None:
    """Refuse a part whose name is taken by something else; the very same is left as it is."""
    name = file.part.name
    require_intact(file)
    mine, theirs = tensors_of(handle, name), file.tensors
    heads = {m: r for m, r in head_records(file.part).items() if handle.labels(_head_name(name, m)) is not None}
    mine, theirs = _with_heads(mine, file.part, heads), _with_heads(theirs, file.part, heads)
    theirs = {n: t.to(mine[n].dtype) if n.startswith(HEAD) and n in mine else t for n, t in theirs.items()}
    same_heads = all(_same_head(handle, _head_name(name, member), record) for member, record in heads.items())
    if not (_same_making(handle, file) and same_heads and equal(mine, theirs)):
        raise UnknownNameError(f"{file.where}: another {name!r} is on this model; remove({name!r}) first")


def _same_making(handle: Handle, file: File) -> bool:
    name = file.part.name
    return handle.config(name).to_dict() == file.part.config and handle.fusions.get(name) == file.part.pool


def _head_name(name: str, member: str) -> str:
    return full_name(name, member) if member else name


def _same_head(handle: Handle, name: str, record: HeadRecord) -> bool:
    made = handle.head_config(name)
    return handle.labels(name) == record.labels and (made is None or made.to_dict() == record.config)


def _with_heads(tensors: Tensors, part: Part, heads: Collection[str]) -> Tensors:
    """The tensors without those of heads that only one side has."""
    return {name: t for name, t in tensors.items() if not name.startswith(HEAD) or head_owner(name, part) in heads}
