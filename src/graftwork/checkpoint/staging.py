"""Modules made of a file and filled with its tensors, before anything is added to the model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import nn

from graftwork.attach import Handle, ModelWithHeads, OwnHead, building
from graftwork.attach.changes import changing
from graftwork.attach.model_head import resized
from graftwork.attach.named_heads import make_named_head
from graftwork.checkpoint.bounded_tensors import BoundedTensors
from graftwork.checkpoint.manifest import AdapterManifest, HeadRecord
from graftwork.checkpoint.naming import head_owner, head_prefix, head_records, parts
from graftwork.checkpoint.reading import File, on_base
from graftwork.checkpoint.tensors import HEAD, Tensors, fill, gather, has_weights, require_fit, require_outputs
from graftwork.compose import Learned, LearnedConfig, config_class
from graftwork.errors import CheckpointError, GraftworkError
from graftwork.heads import HeadConfig, head_from_dict
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.methods.layers.peft_values import without_starts
from graftwork.weights.names import full_name
from graftwork.weights.sharded import class_name

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """The options of `graftwork.Adapters.load`."""

    head: bool | None
    other_base: bool
    other_members: bool


@dataclasses.dataclass(frozen=True)
class Staged:
    """A part ready to be added: modules and norms by the index of their site, its own head (``""``) and its members'."""

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
            CheckpointError: If it is an adapter of peft whose weights do not fit; nothing is added then.
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


def stage(handle: Handle, file: File, name: str, present: Collection[int], options: LoadOptions) -> Staged:
    """Return the modules of a file, filled with its tensors; refuse a file that does not fit.

    ``present`` are the sites, by their index, where the adapters of a fusion's pool are.
    """
    file = on_base(handle, file, options.other_base)
    with making(file.where, file.tensors):
        return _stage(handle, file, name, present, options.head)


@contextlib.contextmanager
def making(where: str, tensors: Tensors) -> Iterator[None]:
    """Make modules of a file: bounded by its tensors, drawing from no global random state, every error a `CheckpointError`."""
    try:
        with torch.random.fork_rng(devices=[]), BoundedTensors(where, tensors):
            yield
    except CheckpointError:
        raise
    except (GraftworkError, TypeError, ValueError, KeyError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{where} cannot be loaded: {error}") from error


def config_of(part: AdapterManifest) -> AdapterConfig | LearnedConfig | HeadConfig:
    """Return the configuration of a part."""
    if part.pool is not None:
        return config_class(part.pool).from_dict(part.config)
    return head_from_dict(part.config) if part.kind == "head" else config_from_dict(without_starts(part.config))


def _stage(handle: Handle, file: File, name: str, present: Collection[int], head: bool | None) -> Staged:
    model, sites, part = handle.model, handle.sites, file.part
    for record in (part.config if part.kind == "head" else None, *(one.config for one in head_records(part).values())):
        require_outputs((record or {}).get("labels"), file.tensors, file.where)
    config = config_of(part)
    modules: Mapping[int, nn.Module] = {}
    norms: dict[int, nn.Module] = {}
    pool = None
    injected: tuple[str, ...] = ()  # these weights are made and filled in the model itself
    if isinstance(config, LearnedConfig):
        assert part.pool is not None
        pool = type(part.pool)(*part.pool.children, **{**part.pool.options, "name": name})
        modules = building.build_fusion(model, sites, present, pool, config)
    elif isinstance(config, HeadConfig):
        head = True
    else:
        injected = _injected_names(config)
        modules, norms = building.build(model, sites, config)
    keys = [sites.key_of(site) for site in sites.places]
    by_key = {keys[index]: module for index, module in modules.items()}
    _require_sites(file, {key for key, module in by_key.items() if has_weights(module)})
    chosen = _heads(handle, file, head)
    paths = {sites.norms[index].removeprefix(sites.prefix): norm for index, norm in norms.items()}
    heads = {member: one.modules for member, one in chosen.items()}
    wanted = gather(parts(by_key, paths, heads, building.shared_by(modules, norms)))
    given = {
        key: tensor
        for key, tensor in file.tensors.items()
        if not key.startswith(injected) and (not key.startswith(HEAD) or head_owner(key, part) in chosen)
    }
    require_fit(wanted, given, file.where)
    file.require_intact()
    fill(wanted, given)
    for tensor in wanted.values():
        tensor.requires_grad_(False)  # what is loaded is fixed until train_only says otherwise
    return Staged(name, config, pool, modules, norms, chosen, file)


def _inject(handle: Handle, name: str, config: AdapterConfig, file: File) -> None:
    """Have peft put an adapter into the model, with the weights of a file; nothing is added where they do not fit."""
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
    """Return the beginnings of the names, in a file, of the tensors that peft computes with."""
    return tuple(f"shared/{part}" for part in config.injected)


def _require_sites(file: File, here: set[str]) -> None:
    """Refuse a part whose sites with weights would be others than in the file."""
    saved = set(file.part.sites)
    if saved == here:
        return
    only = [
        f"{', '.join(sorted(keys)[:3])} only {where}"
        for keys, where in ((saved - here, "in the file"), (here - saved, "here"))
        if keys
    ]
    why = (
        "its sites are not the same"
        if file.part.pool is None
        else "its pool's adapters stand elsewhere than in the file"
    )
    raise CheckpointError(f"{file.where}: {why}: {'; '.join(only)}")


def _heads(handle: Handle, file: File, take: bool | None) -> dict[str, OwnHead]:
    """Return the heads of a file that are loaded, its own (``""``) and its members', not filled yet."""
    records = head_records(file.part)
    if take and not records:
        raise CheckpointError(f"{file.where} has no head; leave out head=True")
    if take is False:
        return {}
    found = {member: _head(handle, file, member, record, take) for member, record in records.items()}
    return {member: head for member, head in found.items() if head is not None}


def _head(handle: Handle, file: File, member: str, record: HeadRecord, take: bool | None) -> OwnHead | None:
    here = class_name(handle.model)
    if record.config is not None and isinstance(handle.model, ModelWithHeads):
        return make_named_head(handle, head_from_dict(record.config))
    if take is None and (not handle.head_paths or record.model_class != here):
        level = logging.WARNING if handle.head_paths else logging.INFO
        logger.log(
            level, "%s: its head is that of a %s and is left aside on a %s", file.where, record.model_class, here
        )
        return None
    if set(record.modules) != set(handle.head_paths):
        raise CheckpointError(
            f"{file.where}: its head is {list(record.modules)} of a {record.model_class}, that of {here} is "
            f"{list(handle.head_paths)}; give load(..., head=False) to leave it aside"
        )
    return OwnHead(_copied_head(handle, file, member, record), record.labels)


def _copied_head(handle: Handle, file: File, member: str, record: HeadRecord) -> dict[str, nn.Module]:
    """Return a copy of the model's own head with the sizes of the file's."""
    own = {path: handle.model.get_submodule(path) for path in handle.head_paths}
    modules = building.copy_head(handle.model, own)
    other = [
        f"{path} is a {record.modules[path]}, not a {type(m).__name__}"
        for path, m in modules.items()
        if record.modules[path] != type(m).__name__
    ]
    if other:
        raise CheckpointError(
            f"{file.where}: its head was made of other modules: {'; '.join(other)}; give load(..., head=False) and pass "
            f"the module to add_head({file.part.name!r}, module)"
        )
    wanted = gather({f"{head_prefix(member)}{path}": m for path, m in modules.items()})
    if any(name in file.tensors and file.tensors[name].shape != t.shape for name, t in wanted.items()):
        resized(handle.model, modules, record.labels)
    return modules
