"""What folders of peft and of AdapterHub's library say of themselves, as the values of a `FolderInfo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftwork.checkpoint.adapterhub.files import ADAPTER, FUSION, HEAD, SETUP, Names
from graftwork.checkpoint.json_files import read_json
from graftwork.checkpoint.peft_files import CONFIG, TENSORS
from graftwork.errors import CheckpointError
from graftwork.shelf.headers import Shapes, shapes_in, weights_in
from graftwork.shelf.records import OWN_HEAD, BaseInfo, HeadInfo, History


def of_peft(folder: Path) -> dict[str, Any]:
    """What a folder of peft says."""
    values = read_json(folder / CONFIG)
    if not isinstance(values.get("peft_type"), str):
        raise CheckpointError(f"{folder / CONFIG} is damaged: it has no peft_type; copy the folder again")
    if not (folder / TENSORS).is_file() and (folder / "adapter_model.bin").is_file():
        raise CheckpointError(
            f"{folder} has adapter_model.bin, which may run code when it is read: save it anew with peft"
        )
    shapes = shapes_in(folder / TENSORS)
    kept = values.get("modules_to_save") or []
    names = tuple(f".{name}." for name in kept if isinstance(name, str)) if isinstance(kept, list) else ()
    head = {key: shape for key, shape in shapes.items() if any(name in f".{key}" for name in names)}
    mapping = values.get("auto_mapping")
    return {
        "kind": "adapter",
        "name": folder.name,
        "method": values["peft_type"].lower(),
        "options": {key: value for key, value in values.items() if value is not None},
        "base": BaseInfo(
            name=_text(values.get("base_model_name_or_path")),
            model_class=_text(mapping.get("base_model_class")) if isinstance(mapping, dict) else None,
        ),
        "weights": weights_in(shapes) - weights_in(head),
        "head_weights": weights_in(head),
        "heads": (HeadInfo(kind=_text(values.get("task_type")) or OWN_HEAD),) if head else (),
        "history": History(written_by=f"peft {_text(values.get('peft_version')) or ''}".strip()),
    }


def of_adapterhub(folder: Path) -> dict[str, Any]:
    """What a folder of AdapterHub's library says."""
    if (folder / SETUP).is_file():
        return _setup(folder)
    names = next(names for names in (FUSION, ADAPTER, HEAD) if (folder / names.config).is_file())
    values, shapes = _part(folder, names)
    options = values.get("config") or {}
    if not isinstance(options, dict):
        raise CheckpointError(f"{folder / names.config}: 'config' is no object; load and save it anew")
    head: Shapes = shapes if names is HEAD else {}
    heads = (_head(values),) if names is HEAD else ()
    if names is not HEAD and (folder / HEAD.config).is_file():
        head_values, head = _part(folder, HEAD)
        heads = (_head(head_values),)
    pool = values.get("adapter_names")
    pool = pool.split(",") if isinstance(pool, str) else pool if isinstance(pool, list) else []
    method = options.get("architecture") or ("fuse" if names is FUSION else options.get("head_type") or "bottleneck")
    return {
        "kind": {ADAPTER: "adapter", FUSION: "fusion", HEAD: "head"}[names],
        "name": _text(values.get("name")) or folder.name,
        "method": str(method),
        "options": options,
        "members": tuple(map(str, pool)),
        "base": _base(values),
        "weights": 0 if names is HEAD else weights_in(shapes),
        "head_weights": weights_in(head),
        "heads": heads,
        "history": History(written_by=_text(values.get("version"))),
    }


def _setup(folder: Path) -> dict[str, Any]:
    values = read_json(folder / SETUP)
    inside = [path for path in sorted(folder.iterdir()) if any((path / n.config).is_file() for n in (ADAPTER, FUSION))]
    parts = [of_adapterhub(path) for path in inside]
    return {
        "kind": "composition",
        "name": folder.name,
        "method": "composition",
        "options": {"adapter_setup": values.get("adapter_setup")},
        "members": tuple(part["name"] for part in parts),
        "base": parts[0]["base"] if parts else BaseInfo(),
        "weights": sum(part["weights"] for part in parts),
        "head_weights": sum(part["head_weights"] for part in parts),
        "heads": tuple(head for part in parts for head in part["heads"]),
        "history": History(written_by=_text(values.get("version"))),
    }


def _part(folder: Path, names: Names) -> tuple[dict[str, Any], Shapes]:
    newer = (folder / names.tensors).is_file()
    return read_json(folder / names.config), shapes_in(folder / (names.tensors if newer else names.older))


def _head(values: Mapping[str, Any]) -> HeadInfo:
    config = values.get("config")
    config = config if isinstance(config, dict) else {}
    labels = config.get("label2id") or values.get("label2id")
    kind = _text(config.get("head_type")) or _text(values.get("model_class")) or OWN_HEAD
    return HeadInfo(kind=kind, labels=tuple(map(str, labels)) if isinstance(labels, dict) else ())


def _base(values: Mapping[str, Any]) -> BaseInfo:
    width = values.get("hidden_size")
    return BaseInfo(
        name=_text(values.get("model_name")),
        model_type=_text(values.get("model_type")),
        model_class=_text(values.get("model_class")),
        width=width if type(width) is int else None,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
