"""What a trained base differs in from its original: written, and put on the original again.

Tensors are kept whole: a difference of floats, added again, is not the trained weight to the bit. With them goes a sample of
every tensor of the original, so that they are put on no other base.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from graftwork.attach import Handle
from graftwork.attach.base_weights import OWN_HEAD, base_tensors, own_head
from graftwork.checkpoint.difference import DifferenceFile, is_trained, read_difference, require_same_kind
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import MANIFEST, TENSORS, dump, replace_folder
from graftwork.checkpoint.manifest import Difference
from graftwork.checkpoint.saving import require_same
from graftwork.checkpoint.tensors import Tensors, encode, require_fit, same_bits
from graftwork.errors import CheckpointError
from graftwork.weights.offload import refuse_trained
from graftwork.weights.samples import samples

logger = logging.getLogger(__name__)


def save_base(handle: Handle, folder: Path, *, against: nn.Module | Mapping[str, Tensor] | None = None) -> Path:
    """Write the difference of a trained base; see `graftwork.Adapters.save_base`."""
    history, tensors = handle.base_history, base_tensors(handle)
    if against is not None:
        before = _originals(handle, tensors, against)
        known = samples(before)
        changed = {n: t for n, t in tensors.items() if not same_bits(before[n].to(t.device, t.dtype), t)}
    else:
        known = history.before or {}
        changed = {n: t for n, t in tensors.items() if n in history.changed}
    if not changed:
        raise CheckpointError(
            "nothing of the base differs from against=: there is nothing to save"
            if against is not None
            else "nothing of the base was trained here, so its original is not known; train it with "
            'train_only(..., base="trained" or "norms"), or give the original: save_base(folder, against=model)'
        )
    replaced = sorted(known.keys() ^ tensors.keys())
    if replaced:
        raise CheckpointError(
            f"{replaced[0]!r} of the base is another tensor than when it was first trained (resized, say), so that its "
            "original is not known; resize the model before attach()"
        )
    changed.update({n: t for n, t in own_head(handle).items() if n in history.changed})
    data = encode(changed)
    original = dataclasses.replace(Fingerprint.of(handle, sample=False), samples=known)
    found = Difference(
        original=original,
        model_class=type(handle.model).__name__,
        tensors=tuple(changed),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    require_same(folder, "difference of a base", None)
    folder = replace_folder(folder, {MANIFEST: dump(found.to_dict()), TENSORS["base"]: data})
    logger.info("%s: %d of %d tensors of the base, %d bytes", folder, len(changed), len(tensors), len(data))
    return folder


def load_base(handle: Handle, folder: Path, *, keep: bool = False) -> None:
    """Put the difference of a trained base on its original; see `graftwork.Adapters.load_base`."""
    refuse_trained(handle.model, "load_base")
    file = read_difference(folder)
    history, tensors = handle.base_history, base_tensors(handle)
    require_same_kind(handle, file, tensors)
    wanted = _wanted(handle, file, tensors)
    there = is_trained(file, tensors)
    if keep and there and history.kept is None:
        raise CheckpointError(
            f"{file.where}: this base is the trained one already, there is no original to keep; leave out keep=True"
        )
    if keep and not there:
        history.kept = {n: t.detach().clone() for n, t in wanted.items()}, history.before, history.changed
    _write(wanted, file.tensors)
    history.before = history.before or file.found.original.samples
    history.changed |= wanted.keys()


def unload_base(handle: Handle) -> None:
    """Put back the original of what `load_base` wrote over; see `graftwork.Adapters.unload_base`."""
    history = handle.base_history
    if history.kept is None:
        raise CheckpointError("no original is kept; say load_base(folder, keep=True) to be able to go back")
    kept, before, changed = history.kept
    tensors = {**base_tensors(handle), **own_head(handle)}
    wanted = {name: tensors[name] for name in kept if name in tensors}
    require_fit(wanted, kept, "the original that load_base kept")
    _write(wanted, kept)
    history.changed = changed | (history.changed - kept.keys())
    history.before = history.before if history.changed else before
    history.kept = None


@torch.no_grad()
def _write(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Values into the model's tensors, in place: what was made of them sees by their version that they changed."""
    for name, tensor in wanted.items():
        tensor.copy_(given[name])


def _wanted(handle: Handle, file: DifferenceFile, tensors: Tensors) -> Tensors:
    """The model's tensors that a difference is written into.

    Raises:
        CheckpointError: If they are not those of the file, or cannot be written.
    """
    head = own_head(handle)
    here = type(handle.model).__name__
    given = file.tensors
    if file.found.model_class != here:
        if any(name.startswith(OWN_HEAD) for name in given):
            logger.warning("%s: its head is that of a %s and is left aside", file.where, file.found.model_class)
        given = {name: tensor for name, tensor in given.items() if not name.startswith(OWN_HEAD)}
    wanted = {n: t for n, t in {**tensors, **head}.items() if n in given}
    require_fit(wanted, given, file.where)
    fixed = next((name for name, tensor in wanted.items() if tensor.is_inference()), None)
    if fixed is not None:
        raise CheckpointError(
            f"{file.where}: {fixed!r} was made in torch.inference_mode() and cannot be written; load the model outside it"
        )
    return wanted


def _originals(handle: Handle, tensors: Tensors, against: nn.Module | Mapping[str, Tensor]) -> Tensors:
    """The original of every tensor of the base, by name.

    Raises:
        CheckpointError: If one is not there, or has another shape.
    """
    state, start = (against, "") if not isinstance(against, nn.Module) else _state(against)
    prefix = handle.sites.prefix
    found = {}
    for name, tensor in tensors.items():
        original = _first(state, (prefix + name, start + name, name))
        if original is None or original.shape != tensor.shape:
            what = "lacks it" if original is None else f"has it as {tuple(original.shape)}"
            raise CheckpointError(
                f"against= is another model: the base has {name!r} of the shape {tuple(tensor.shape)}, it {what}; give "
                "the original of the same class, or its state_dict()"
            )
        found[name] = original
    return found


def _state(model: nn.Module) -> tuple[Mapping[str, Tensor], str]:
    """A model's tensors by name, those that are tied under each of theirs; and its base model's prefix."""
    prefix = getattr(model, "base_model_prefix", "")
    return model.state_dict(), f"{prefix}." if prefix and hasattr(model, prefix) else ""


def _first(state: Mapping[str, Tensor], names: Iterable[str]) -> Tensor | None:
    return next((state[name] for name in names if name in state), None)
