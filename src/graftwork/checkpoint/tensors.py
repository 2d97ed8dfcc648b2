"""Weights by name: gathered from modules, encoded and decoded, compared with a file's, written back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from graftwork.errors import CheckpointError
from graftwork.weights.samples import is_quantised, whole

Tensors = dict[str, Tensor]
HEAD = "head/"
_SHOWN = 5


def gather(parts: Mapping[str, nn.Module]) -> Tensors:
    """Return every parameter and persistent buffer of some modules as ``<part>/<name>``; a shared one only once."""
    seen: set[int] = set()
    found: Tensors = {}
    for part, module in parts.items():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if not isinstance(tensor, Tensor) or is_quantised(tensor):
                raise CheckpointError(
                    f"{part}/{name} is quantised and cannot be written to a file, nor read from one; save adapters before the "
                    "model is quantised, or attach to the quantised model"
                )
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{part}/{name}"] = tensor
    return found


def has_weights(module: nn.Module) -> bool:
    """Whether a site's module has tensors of its own in a file; one whose weights are all shared has none."""
    return bool(module.state_dict())


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file, each tensor in its own dtype."""
    empty = [name for name, t in tensors.items() if t.is_meta]
    if empty:
        raise CheckpointError(f"{empty[0]!r} is on the meta device and has no values; load or move the model first")
    plain = {name: whole(t.detach()).cpu().contiguous().clone() for name, t in tensors.items()}
    return safetensors.torch.save(plain, metadata={"format": "pt"})


def read_tensors(path: Path) -> tuple[Tensors, str]:
    """Return the tensors of a safetensors file, and the hash of the file.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} lacks {path.name}; save it again, or copy the whole folder")
    data = path.read_bytes()
    try:
        return safetensors.torch.load(data), hashlib.sha256(data).hexdigest()
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({len(data):,d} bytes): {error}") from error


def require_fit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """Refuse a file whose tensors are not exactly those of the model, naming every kind of difference."""
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    both = [(name, wanted[name], given[name]) for name in wanted if name in given]
    shapes = [f"{name} is {tuple(g.shape)}, not {tuple(w.shape)}" for name, w, g in both if w.shape != g.shape]
    kinds = [
        f"{name} is {g.dtype}, not {w.dtype}"
        for name, w, g in both
        if w.dtype != g.dtype and not (w.is_floating_point() and g.is_floating_point())
    ]
    problems = [
        f"{what}: {', '.join(found[:_SHOWN])}{f' and {len(found) - _SHOWN} more' if len(found) > _SHOWN else ''}"
        for what, found in (
            ("missing", missing),
            ("not expected", extra),
            ("misshapen", shapes),
            ("of another type", kinds),
        )
        if found
    ]
    if problems:
        raise CheckpointError(f"{where} does not fit: {'; '.join(problems)}")
    empty = [name for name, t in wanted.items() if t.is_meta]
    if empty:
        raise CheckpointError(
            f"{where}: the model is on the meta device, {empty[0]!r} has no storage; load the model first"
        )


def require_outputs(count: Any, given: Mapping[str, Tensor], where: str) -> None:
    """Refuse a number of labels that a file has no weights for, before so many names are made.

    ``count`` may be anything that a file says; what is no number is left to the checks of its configuration.
    """
    rows = max((max(tensor.shape, default=0) for tensor in given.values()), default=0)
    if isinstance(count, int) and count > rows:
        raise CheckpointError(
            f"{where} is damaged: it names {count:,d} labels, and its tensors have {rows:,d} rows at most"
        )


@torch.no_grad()
def fill(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Write a file's values into a model's tensors, which stay the same objects.

    No precision is lost: a weight that has a wider dtype in the file gets it in the model. A head keeps the model's dtype,
    which is float32 or wider (`graftwork.attach.model_head.copied`).
    """
    for name, tensor in wanted.items():
        value = given[name]
        dtype = torch.promote_types(tensor.dtype, value.dtype)
        if dtype == tensor.dtype or name.startswith(HEAD):
            tensor.copy_(value)
        else:
            tensor.data = value.to(tensor.device, dtype)


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same names, dtypes and bits (a NaN equals itself)."""
    return one.keys() == other.keys() and all(same_bits(one[name], other[name]) for name in one)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and bits, wherever they are."""
    one, other = one.detach().cpu().contiguous(), other.detach().cpu().contiguous()
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
