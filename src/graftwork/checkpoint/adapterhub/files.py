"""The files of AdapterHub's folders: JSON, and tensors in safetensors or in the older ``.bin``, of which nothing is run."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graftwork.checkpoint.json_files import read_json
from graftwork.checkpoint.tensors import Tensors, read_tensors
from graftwork.errors import CheckpointError


class Names(NamedTuple):
    """The names of the files of one kind of part: its configuration, its tensors, and its tensors in the older form."""

    config: str
    tensors: str
    older: str


ADAPTER = Names("adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin")
FUSION = Names("adapter_fusion_config.json", "model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin")
HEAD = Names("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")
SETUP = "adapter_setup.json"
INTERFACE = "adapter_interface.json"
HASHES = "sha256"  # written here and not there: the hash of each file of tensors beside the JSON, by its name

# Before a file had its version in it, "gelu" was the approximation by tanh.
_RENAMED_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
_FIXED_ALPHA = (1, 1, 0)


@dataclasses.dataclass(frozen=True)
class Part:
    """What one of their folders says of an adapter, a fusion or a head.

    Attributes:
        where: The folder, for messages.
        name: The name that it was saved under.
        config: Its options.
        values: The whole of the JSON.
        tensors: Its tensors by their names.
    """

    where: str
    name: str
    config: dict[str, Any]
    values: dict[str, Any]
    tensors: Tensors


def is_adapterhub_folder(folder: Path) -> bool:
    """Whether a folder is one that AdapterHub's library wrote: an adapter, a fusion, a head or a whole setup.

    Raises:
        CheckpointError: If the configuration of the adapter in it is damaged.
    """
    if any((folder / name).is_file() for name in (SETUP, FUSION.config)):
        return True
    if (folder / ADAPTER.config).is_file():  # peft's file has the same name
        values = read_json(folder / ADAPTER.config)
        return "peft_type" not in values and "config" in values
    return (folder / HEAD.config).is_file()


def read_part(folder: Path, names: Names) -> Part:
    """Read an adapter, a fusion or a head, its options as the newest version of the library has them.

    Raises:
        CheckpointError: If a file is missing, damaged, or holds something else.
    """
    if not (folder / names.config).is_file():
        raise CheckpointError(f"{folder} lacks {names.config}; copy the whole folder")
    values = read_json(folder / names.config)
    config, name = values.get("config"), values.get("name")
    config = {} if config is None else config
    name = folder.name if name is None else name
    if not isinstance(config, dict) or not isinstance(name, str):
        raise CheckpointError(
            f"{folder / names.config}: 'config' is no object, or 'name' no text; load and save it anew"
        )
    if (folder / names.tensors).is_file():
        path, (tensors, sha256) = folder / names.tensors, read_tensors(folder / names.tensors)
    else:
        path, (tensors, sha256) = folder / names.older, _read_older(folder / names.older)
    known = values.get(HASHES)
    if isinstance(known, dict) and known.get(path.name, sha256) != sha256:
        raise CheckpointError(
            f"{path} is not the file that {names.config} next to it was written with; copy both from one save"
        )
    config = _as_newest(config, values.get("version"))
    if values.get("type") == "text_task" and not any("invertible" in key for key in tensors):
        config["inv_adapter"] = None  # in the oldest files adapters of tasks name one that they do not have
    return Part(str(folder), name, config, values, tensors)


def _as_newest(config: dict[str, Any], version: Any) -> dict[str, Any]:
    """The options as the newest version would have them, for the same function."""
    config = dict(config)
    if version is None and config.get("non_linearity") in _RENAMED_ACTIVATIONS:
        config["non_linearity"] = _RENAMED_ACTIVATIONS[config["non_linearity"]]
    inverse = config.pop("invertible_adapter", None)
    if isinstance(inverse, dict):
        config["inv_adapter"] = inverse.get("block_type")
        config["inv_adapter_reduction_factor"] = inverse.get("reduction_factor")
    found = re.match(r"adapters\.(\d+)\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    if found and config.get("architecture") == "lora" and tuple(map(int, found.groups())) < _FIXED_ALPHA:
        config["alpha"] = config.get("r")  # these versions computed without alpha / r
    return config


def _read_older(path: Path) -> tuple[Tensors, str]:
    """The tensors of a file of ``torch.save``, and its hash; nothing in it is run, and nothing larger than the file is made."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} lacks {path.name}; copy the whole folder, or save it anew")
    data = path.read_bytes()
    size = len(data)
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size:
                    raise ValueError("it is compressed, which torch.save never does")
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises can be anything
        raise CheckpointError(f"{path} is damaged, or holds more than tensors: {error}") from error
    if not isinstance(found, dict) or not all(_is_plain(name, value, size) for name, value in found.items()):
        raise CheckpointError(f"{path} holds more than tensors by name; save it anew")
    return dict(found), hashlib.sha256(data).hexdigest()


def _is_plain(name: Any, value: Any, size: int) -> bool:
    """Whether an entry is a plain tensor under a name, not larger than the file."""
    if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return not value.is_meta and value.numel() * value.element_size() <= size
