"""AdapterHub's ``adapter_setup.json``: a composition whose parts are in folders beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.attach import Handle
from graftwork.compose import BatchSplit, Block, Composition, Fuse, Replicate, Split, Stack, names_in
from graftwork.errors import ConfigError
from graftwork.methods import Bottleneck, InvertiblePfeiffer

_DEEPEST = 8
_KINDS: dict[type, str] = {
    Stack: "Stack",
    Fuse: "Fuse",
    Replicate: "Parallel",
    Split: "Split",
    BatchSplit: "BatchSplit",
}


def composition_here(data: Any, depth: int = 0) -> Composition:
    """The composition of ours that is computed alike, by the blocks; see `require_same_composition`.

    Args:
        data: A block of theirs as JSON values.
        depth: How deep it is in others.

    Raises:
        ConfigError: If ours has no such block, or version 1.3.0 computes something else than it says.
    """
    children = data.get("children") if isinstance(data, Mapping) else None
    if not isinstance(children, list) or not children or depth > _DEEPEST:
        raise ConfigError(f"{data!r:.80} is no composition")
    kind, options = data.get("type"), data.get("kwargs") or {}
    if kind == "single":
        if len(children) > 1 or not isinstance(children[0], str):
            raise ConfigError(f"{data!r:.80} is no adapter's name")
        return children[0]
    inside = [composition_here(child, depth + 1) for child in children]
    if kind == "Stack":
        return inside[0] if len(inside) == 1 else Stack(*inside)
    if kind == "Average":
        raise ConfigError(
            "version 1.3.0 divides an Average twice, the residual connection too; no average has the same outputs"
        )
    if kind == "Fuse" and not all(isinstance(child, str) for child in inside):
        raise ConfigError("of a Stack in a Fuse version 1.3.0 takes the last adapter's up-projection alone")
    if any(isinstance(child, Block) for child in inside):
        raise ConfigError(f"version 1.3.0 applies the model's norm twice to a block inside a {kind}")
    if kind == "Fuse":
        return Fuse(*inside, name=",".join(map(str, inside)))
    if kind == "Parallel":
        return Replicate(*inside)
    if kind == "Split":
        return Split(*inside, splits=options.get("splits", ()))
    if kind == "BatchSplit":
        return BatchSplit(*inside, batch_sizes=options.get("batch_sizes", ()))
    raise ConfigError(f"a block of the type {kind!r} has no counterpart here")


def composition_there(composition: Composition) -> dict[str, Any]:
    """The block of theirs, as JSON values, that is computed alike.

    Raises:
        ConfigError: If there is none.
    """
    data = _block(composition)
    if composition_here(data) != composition:
        raise ConfigError(
            "an option of it (the name of a fusion, other than its adapters' with commas) is in none of their files"
        )
    return data


def _block(composition: Composition) -> dict[str, Any]:
    if isinstance(composition, str):
        return {"type": "single", "children": [composition]}
    kind = _KINDS.get(type(composition))
    if kind is None or not isinstance(composition, Block):
        raise ConfigError(f"{composition!r} has no counterpart there")
    options = {name: composition.options[name] for name in ("splits", "batch_sizes") if name in composition.options}
    data = {"type": kind, "children": [_block(child) for child in composition.children]}
    return {**data, "kwargs": options} if options else data


def require_same_composition(composition: Composition, handle: Handle) -> None:
    """Refuse a composition of adapters on the model that version 1.3.0 computes otherwise.

    Raises:
        ConfigError: If it does.
    """
    for block in composition.walk() if isinstance(composition, Block) else ():
        if not isinstance(block, Block):
            continue
        configs = {name: handle.adapter_config(name) for name in dict.fromkeys(names_in(block))}
        bottlenecks = {name: config for name, config in configs.items() if isinstance(config, Bottleneck)}
        placed = {(config.reads, config.writes, config.sites) for config in bottlenecks.values()}
        if isinstance(block, (Split, BatchSplit, Replicate)) and len(placed) > 1:
            raise ConfigError(
                f"version 1.3.0 computes the adapters of a {type(block).__name__} with the wiring of the first and the last"
            )
        if not isinstance(block, Stack):
            continue
        if "residual" in {reads for reads, _, _ in placed}:
            raise ConfigError("a parallel adapter in a Stack forgets what those before it added in version 1.3.0")
        later = [bottlenecks[name] for name in list(configs)[1:] if name in bottlenecks]
        if any(isinstance(config, InvertiblePfeiffer) for config in later):
            raise ConfigError("version 1.3.0 computes the invertible adapter of the first in a Stack alone")


def subfolder(folder: Path, name: str) -> Path:
    """The folder of a part, beside the setup.

    Raises:
        ConfigError: If the name leads elsewhere.
    """
    if Path(name).name != name or name in ("", "..") or "\\" in name or "\0" in name:
        raise ConfigError(f"{name!r} is no name of a folder inside {folder}")
    return folder / name
