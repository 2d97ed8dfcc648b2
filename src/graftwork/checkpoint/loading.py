"""Reading what `save` wrote: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from graftwork.attach import Handle
from graftwork.attach.changes import changing
from graftwork.checkpoint import digests
from graftwork.checkpoint.manifest import (
    AdapterManifest,
    CompositionManifest,
    HeadRecord,
    refused_where_too_deep,
    title,
)
from graftwork.checkpoint.naming import head_name, head_owner, head_records, tensors_of
from graftwork.checkpoint.reading import File, as_here, on_base, read
from graftwork.checkpoint.staging import LoadOptions, Staged, config_of, stage
from graftwork.checkpoint.tensors import HEAD, Tensors, equal, require_fit
from graftwork.compose import Composition, fusions_in, names_in
from graftwork.errors import CheckpointError, ConfigError, UnknownNameError
from graftwork.methods.layers.peft_values import without_starts
from graftwork.weights.names import check_new, parted


def load(handle: Handle, folder: Path, name: str | None, options: LoadOptions) -> Composition:
    """Add what a folder holds to a model; see `graftwork.Adapters.load`."""
    with refused_where_too_deep(folder):
        found = read(folder)
        if isinstance(found, tuple):
            if name is not None:
                raise ConfigError(
                    f"{folder} holds a composition of several adapters, which cannot be called {name!r}; leave out name"
                )
            return _load_composition(handle, folder, *found, options)
        chosen = found.part.name if name is None else name
        check_new(chosen, handle, f"the {found.part.kind}")
        _stage_part(handle, found, chosen, {}, options).add(handle)
        return chosen


def matched(
    handle: Handle, folder: Path, names: Collection[str], *, other_base: bool = False
) -> list[tuple[File, Tensors]]:
    """Return the parts of a composition folder, each with the tensors of the model that it can be written into.

    ``names`` are the adapters and fusions that the folder has to hold, and no others.

    Raises:
        UnknownNameError: If one of them is not on the model.
        CheckpointError: If it has another configuration, does not fit, or the folder is damaged or holds others.
    """
    with refused_where_too_deep(folder):
        read_here = read(folder)
        if isinstance(read_here, File):
            raise CheckpointError(f"{folder} holds the {title(read_here.part)}, not a composition; use load()")
        whole, parts = read_here
        found = []
        files = {file.part.name: file for file in parts}
        for name, read_file in list(files.items()):
            if name not in handle.parts:
                raise UnknownNameError(
                    f"{read_file.where} is not on this model; add it, as when the training began, and resume"
                )
            file = files[name] = on_base(handle, read_file, other_base)
            if not _same_configuration(handle, file):
                raise CheckpointError(f"{file.where} is configured otherwise than the {name!r} that is on this model")
            wanted = tensors_of(handle, name)
            require_fit(wanted, file.tensors, file.where)
            file.require_intact()
            if file.part.pool is not None:
                _require_trained_over(handle, file.where, file.part, files)
            found.append((file, wanted))
        _require_trained_over(handle, str(folder), whole, files)
        here = [file.part.name for file, _ in found]
        if set(here) != set(names):
            raise CheckpointError(
                f"{folder} holds {here}, and {list(names)} learn now; call train_only as when the training began"
            )
        return found


def _load_composition(
    handle: Handle, folder: Path, whole: CompositionManifest, parts: list[File], options: LoadOptions
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
        staged[name] = _stage_part(handle, file, name, staged, options)
    needed = (*names_in(whole.composition), *(f.name for f in fusions_in(whole.composition)))
    _require_members(handle, str(folder), needed, staged)
    _require_trained_over(handle, str(folder), whole, _files(staged), options.other_members)
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


def _stage_part(handle: Handle, file: File, name: str, staged: Mapping[str, Staged], options: LoadOptions) -> Staged:
    """Stage one part; the pool of a fusion has to be on the model or staged already."""
    present: set[int] = set()
    if file.part.pool is not None:
        _require_members(handle, file.where, digests.over(file.part.pool), staged)
        for member in names_in(file.part.pool):
            adapter = _staged_owner(member, staged)
            if adapter in staged:
                present |= set(staged[adapter].modules)
            else:
                present |= {handle.sites.place_of[key] for key in handle.modules_of(member)}
        _require_trained_over(handle, file.where, file.part, _files(staged), options.other_members)
    return stage(handle, file, name, present, options)


def _require_trained_over(
    handle: Handle,
    where: str,
    what: AdapterManifest | CompositionManifest,
    files: Mapping[str, File],
    other_members: bool = False,
) -> None:
    """Refuse other adapters than a fusion or a composition was trained over; those in ``files`` are not on the model yet."""
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


def _files(staged: Mapping[str, Staged]) -> dict[str, File]:
    return {name: one.file for name, one in staged.items()}


def _require_members(handle: Handle, where: str, names: Iterable[str], staged: Collection[str]) -> None:
    """Refuse names that neither the model nor what is staged has."""
    known = {*handle.names, *handle.members, *handle.fusions, *staged}
    lacking = [n for n in dict.fromkeys(names) if n not in known and _staged_owner(n, staged) not in staged]
    if lacking:
        raise UnknownNameError(
            f"{where} needs {', '.join(map(repr, lacking))}, which the model does not have; load or add it under that "
            "name first (save(fuse, folder, members=True) keeps a fusion and its pool together)"
        )


def _staged_owner(name: str, staged: Collection[str]) -> str:
    """Return the staged adapter that a member belongs to; for every other name the name itself."""
    adapter, _ = parted(name)
    return adapter if name not in staged and adapter in staged else name


def _require_identical(handle: Handle, file: File) -> None:
    """Refuse a part whose name is taken by another one; the very same part stays as it is."""
    name, part = file.part.name, file.part
    file.require_intact()
    heads = {m: r for m, r in head_records(part).items() if handle.labels(head_name(name, m)) is not None}
    here, saved = _with_heads(tensors_of(handle, name), part, heads), _with_heads(file.tensors, part, heads)
    saved = {key: t.to(here[key].dtype) if key.startswith(HEAD) and key in here else t for key, t in saved.items()}
    same_heads = all(_same_head(handle, head_name(name, member), record) for member, record in heads.items())
    if not (_same_configuration(handle, file) and same_heads and equal(here, saved)):
        raise UnknownNameError(f"{file.where}: another {name!r} is on this model; remove({name!r}) first")


def _same_configuration(handle: Handle, file: File) -> bool:
    name = file.part.name
    same = without_starts(handle.config(name).to_dict()) == without_starts(file.part.config)
    return same and digests.same_pool(handle.fusions.get(name), file.part.pool)


def _same_head(handle: Handle, name: str, record: HeadRecord) -> bool:
    config = handle.head_config(name)
    return handle.labels(name) == record.labels and (config is None or config.to_dict() == record.config)


def _with_heads(tensors: Tensors, part: AdapterManifest, heads: Collection[str]) -> Tensors:
    """Return the tensors without those of other heads."""
    return {name: t for name, t in tensors.items() if not name.startswith(HEAD) or head_owner(name, part) in heads}
