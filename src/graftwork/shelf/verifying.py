"""A folder loaded for real on its base: hashes, fit, finite values, a forward pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from graftwork.attach import Handle
from graftwork.attach.base_weights import base_tensors
from graftwork.checkpoint import LoadOptions
from graftwork.checkpoint.base import load_base
from graftwork.checkpoint.naming import tensors_of
from graftwork.compose import Composition
from graftwork.errors import CheckpointError
from graftwork.shelf.loading import attached, load_pool, load_with_pool
from graftwork.shelf.records import FolderInfo
from graftwork.shelf.trial import difference, outputs


@dataclasses.dataclass(frozen=True)
class Verified:
    """What was checked of a folder, a sentence each; everything was right."""

    folder: Path
    checks: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*(f"  {check}" for check in self.checks), f"{self.folder}: OK"])


def verify(found: FolderInfo, model: nn.Module, *, pool: Sequence[Path] = ()) -> Verified:
    """Load what a folder holds on a model and run it, and take it off again.

    Args:
        found: The folder, from `inspect`.
        model: The base that it was trained on, with nothing attached.
        pool: For a fusion the folders of the adapters in its pool, where they are not in its own.

    Returns:
        What was checked.

    Raises:
        CheckpointError: If anything is wrong: a hash, the base, a name or a shape, a value that is not finite.
    """
    if found.kind == "run":
        raise CheckpointError(f"{found.folder} is a run; give one of its folders, which `graftwork list` shows")
    options = LoadOptions(None, other_base=False, other_members=False)
    with attached(model) as handle:
        plain = _finite(outputs(handle, None), f"the outputs of {type(model).__name__} without it")
        load_pool(handle, pool, options)
        before, what = set(handle.parts), None
        if found.kind == "base":
            load_base(handle, found.folder)
            tensors = dict(base_tensors(handle))
        else:
            what = load_with_pool(handle, found, options)
            # of a head without an adapter there is no part
            new = [name for name in handle.parts if name not in before] or [str(what)]
            tensors = {f"{part}: {name}": t for part in new for name, t in tensors_of(handle, part).items()}
        _require_finite(tensors, str(found.folder))
        changed = difference(plain, _finite(_active(handle, what, found), f"the outputs with {found.folder}"))
    ours = found.format == "graftwork"
    return Verified(
        found.folder,
        (
            "hashes: those of the files" if ours else f"hashes: {found.format}'s files have none",
            f"base: {'type, size and weights' if ours else 'names and sizes'} are those of this {type(model).__name__}",
            f"weights: {sum(t.numel() for t in tensors.values()):,d} values, all finite",
            f"forward pass: finite{_said(changed)}",
        ),
    )


def _active(handle: Handle, what: Composition, found: FolderInfo) -> list[Tensor]:
    return outputs(handle, None, head=what) if found.kind == "head" else outputs(handle, what)


def _said(changed: float) -> str:
    if changed == float("inf"):
        return ", with another form of outputs than without it"
    return f", outputs change by up to {changed:.1e}" if changed else ", outputs are those without it"


def _finite(tensors: list[Tensor], what: str) -> list[Tensor]:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise CheckpointError(f"{what} are not finite on a small input")
    return tensors


def _require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    wrong = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if wrong:
        raise CheckpointError(
            f"{where} is damaged: {len(wrong)} of its tensors have values that are not finite, such as {wrong[0]!r}"
        )
