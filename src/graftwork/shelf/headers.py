"""Names, shapes and sizes of tensors in a file, from its header alone."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from graftwork.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]
_LARGEST = 16 * 2**20  # bytes of a header: some 100,000 tensors


def shapes_in(path: Path) -> Shapes:
    """The shape of each tensor in a file of safetensors, or in the older form of ``torch.save``.

    Raises:
        CheckpointError: If it is missing or damaged, or its header is larger than one can be.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} lacks {path.name}; copy the whole folder, or save it anew")
    try:
        return _of_pickle(path) if path.suffix == ".bin" else _of_header(path)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what a damaged pickle raises can be anything
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from error


def weights_in(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of values in some tensors."""
    return sum(math.prod(shape) for shape in shapes.values())


def _of_header(path: Path) -> Shapes:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > _LARGEST:
        raise CheckpointError(
            f"{path} is damaged: its header has {size:,d} bytes, and none is larger than {_LARGEST:,d}"
        )
    try:
        with safe_open(path, framework="pt") as opened:  # checks that the tensors fill the file
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118  # it is no dict
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}") from error


def _of_pickle(path: Path) -> Shapes:
    """The shapes of tensors that ``torch.save`` wrote: nothing is run, and the values stay on the disk."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} has a form that torch wrote before version 1.6; load it and save it anew")
    found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise CheckpointError(f"{path} holds more than tensors by name; save it anew")
    size = path.stat().st_size
    if any(value.numel() * value.element_size() > size for value in found.values()):
        raise CheckpointError(f"{path} is damaged: a tensor in it is larger than the file")
    return {str(name): tuple(value.shape) for name, value in found.items()}
