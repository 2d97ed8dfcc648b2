"""Reading what `save` wrote: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from graftwork.attach import Handle
from graftwork.attach.changes import changing
from graftwork.checkpoint import digests
from graftwork.checkpoint.manifest import AdapterManifest, CompositionManifest, HeadRecord, refused_where_too_deep
from graftwork.checkpoint.naming import head_owner, head_records, tensors_of
from graftwork.checkpoint.staging import File, Staged, as_here, config_of, on_base, read, require_intact, stage
from graftwork.checkpoint.tensors import HEAD, Tensors, equal, require_fit
from graftwork.compose import Composition, fusions_in, names_in
from graftwork.errors import CheckpointError, ConfigError, UnknownNameError
from graftwork.methods.layers.peft_values import without_starts
from graftwork.weights.names import check_new, full_name, parted


def load(
    handle: Handle,
    folder: Path,
    name: str | None = None,
    *,
    head: bool | None = None,
    other_base: bool = False,
    other_members: bool = False,
) -> Composition:
    """Add what a folder holds to a model; see `graftwork.Adapters.load`."""
    with refused_where_too_deep(folder):
        found = read(folder)
        if isinstance(found, tuple):
            if name is not None:
                raise ConfigError(
                    f"{folder} holds a composition of several adapters, which cannot be called {name!r}; leave out name"
                )
            return _load_whole(handle, folder, *found, head, other_base, other_members)
        chosen = found.part.name if name is None else name
        check_new(chosen, handle, f"the {found.part.kind}")
        stage_one(handle, found, chosen, {}, head, other_base, other_members).add(handle)
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
    with refused_where_too_deep(folder):
        read_here = read(folder)
        if isinstance(read_here, File):
            raise CheckpointError(
                f"{folder} holds the {read_here.part.kind} {read_here.part.name!r}, not a composition; use load()"
            )
        whole, parts = read_here
        found = []
        files = {file.part.name: file for file in parts}
        for name, read_file in list(files.items()):
            if name not in handle.parts:
                raise UnknownNameError(
                    f"{read_file.where} is not on this model; add it, as when the training began, and resume"
                )
            file = files[name] = on_base(handle, read_file, other_base)
            if not _same_making(handle, file):
                raise CheckpointError(f"{file.where} is configured otherwise than the {name!r} that is on this model")
            wanted = tensors_of(handle, name)
            require_fit(wanted, file.tensors, file.where)
            require_intact(file)
            if file.part.pool is not None:
                _require_trained_over(handle, file.where, file.part, files, False)
            found.append((file, wanted))
        _require_trained_over(handle, str(folder), whole, files, False)
        if {file.part.name for file, _ in found} != set(names):
            here = [file.part.name for file, _ in found]
            raise CheckpointError(
                f"{folder} holds {here}, and {list(names)} learn now; call train_only as when the training began"
            )
        return found


def stage_one(
    handle: Handle,
    file: File,
    name: str,
    staged: dict[str, Staged],
    head: bool | None,
    other_base: bool,
    other_members: bool,
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
    for member in names_in(file.part.pool):
        adapter = _staged_owner(member, staged)
        if adapter in staged:
            present |= set(staged[adapter].modules)
        else:
            present |= {handle.sites.place_of[key] for key in handle.modules_of(member)}
    files = {name: one.file for name, one in staged.items()}
    _require_trained_over(handle, file.where, file.part, files, other_members)
    return stage(handle, file, name, present, head=head, other_base=other_base)


def _require_trained_over(
    handle: Handle,
    where: str,
    what: AdapterManifest | CompositionManifest,
    files: Mapping[str, File],
    other_members: bool,
) -> None:
    """Refuse other adapters than a fusion or a composition was trained over; those in ``files`` are about to be here."""
    if isinstance(what, CompositionManifest):
        name, names = "the composition", digests.outside(what.composition, (*what.adapters, *what.fusions))
    else:
        name, names = repr(what.name), digests.over(what.pool)
    here = digests.of_model(handle, [n for n in names if _staged_owner(n, files) not in files])
    for member in names:
        file = files.get(_staged_owner(member, files))
        if file is not None:
            here[member] = digests.digest(member, config_of(file.part), file.tensors)
    digests.require_known(where, name, what.members, here, other_members)


def _load_whole(
    handle: Handle,
    folder: Path,
    whole: CompositionManifest,
    parts: list[File],
    head: bool | None,
    other_base: bool,
    other_members: bool,
) -> Composition:
    staged: dict[str, Staged] = {}
    files = [as_here(handle, file) for file in parts]
    renamings = [file.renaming for file in files if file.renaming is not None]
    if renamings:
        whole = whole.model_copy(update={"composition": renamings[0].composition(whole.composition)})
    for file in files:
        name = file.part.name
        if name in handle.parts:
            _require_identical(handle, file)
            continue
        check_new(name, staged, f"the {file.part.kind}")
        staged[name] = stage_one(handle, file, name, staged, head, other_base, other_members)
    needed = (*names_in(whole.composition), *(f.name for f in fusions_in(whole.composition)))
    _require_members(handle, str(folder), needed, staged)
    _require_trained_over(handle, str(folder), whole, {n: one.file for n, one in staged.items()}, other_members)
    added: list[str] = []
    with changing(handle):
        try:
            for name, one in staged.items():
                one.add(handle)
                added.append(name)
            handle.check(whole.composition)
        except BaseException:
            for name in reversed(added):
                handle.remove(name)
            raise
    return whole.composition


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
    same = without_starts(handle.config(name).to_dict()) == without_starts(file.part.config)
    return same and digests.same_pool(handle.fusions.get(name), file.part.pool)


def _head_name(name: str, member: str) -> str:
    return full_name(name, member) if member else name


def _same_head(handle: Handle, name: str, record: HeadRecord) -> bool:
    made = handle.head_config(name)
    return handle.labels(name) == record.labels and (made is None or made.to_dict() == record.config)


def _with_heads(tensors: Tensors, part: AdapterManifest, heads: Collection[str]) -> Tensors:
    """The tensors without those of heads that only one side has."""
    return {name: t for name, t in tensors.items() if not name.startswith(HEAD) or head_owner(name, part) in heads}
