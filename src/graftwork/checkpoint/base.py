"""The difference between a trained base and its original: written, and applied to the original again.

Tensors are kept whole: a difference of floats, added again, is not the trained weight to the bit. The file also has a few values
of every tensor of the original, so that the difference is applied to no other base.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from graftwork.attach import Handle
from graftwork.attach.base_weights import OWN_HEAD, base_tensors, own_head
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import TENSORS, read_whole, replace_folder
from graftwork.checkpoint.json_files import MANIFEST, dump
from graftwork.checkpoint.manifest import CompositionManifest, Difference, manifest_in, refused_where_too_deep, title
from graftwork.checkpoint.reading import require_written_with
from graftwork.checkpoint.saving import require_same
from graftwork.checkpoint.tensors import Tensors, encode, read_tensors, require_fit, same_bits
from graftwork.errors import CheckpointError
from graftwork.weights.offload import refuse_trained
from graftwork.weights.samples import same, sampled, samples
from graftwork.weights.sharded import refuse_shards

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DifferenceFile:
    """The difference of a base as it is on disk, read whole."""

    folder: Path
    found: Difference
    tensors: Tensors

    @property
    def where(self) -> str:
        """Its name in messages."""
        return f"{self.folder} ({title(self.found)})"


def save_base(handle: Handle, folder: Path, *, against: nn.Module | Mapping[str, Tensor] | None = None) -> Path:
    """Write the difference of a trained base; see `graftwork.Adapters.save_base`."""
    refuse_shards(handle.model, "save_base")
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
            f"{replaced[0]!r} of the base is another tensor than when it was first trained (resized, for instance), so that "
            "its original is not known; resize the model before attach()"
        )
    changed.update({n: t for n, t in own_head(handle).items() if n in history.changed})
    data = encode(changed)
    found = Difference(
        original=dataclasses.replace(Fingerprint.of(handle, sample=False), samples=known),
        model_class=type(handle.model).__name__,
        tensors=tuple(changed),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    require_same(folder, found)
    folder = replace_folder(folder, {MANIFEST: dump(found.to_dict()), TENSORS["base"]: data})
    logger.info("%s: %d of %d tensors of the base, %d bytes", folder, len(changed), len(tensors), len(data))
    return folder


def load_base(handle: Handle, folder: Path, *, keep: bool = False) -> None:
    """Apply the difference of a trained base to its original; see `graftwork.Adapters.load_base`."""
    refuse_trained(handle.model, "load_base")
    refuse_shards(handle.model, "load_base")
    with refused_where_too_deep(folder):
        file = read_whole(folder, _read)
    history, tensors = handle.base_history, base_tensors(handle)
    _require_same_kind(handle, file, tensors)
    wanted = _wanted(handle, file, tensors)
    is_there = _is_trained(file, tensors)
    if keep and is_there and history.kept is None:
        raise CheckpointError(
            f"{file.where}: this base is the trained one already, there is no original to keep; leave out keep=True"
        )
    if keep and not is_there:
        history.kept = {n: t.detach().clone() for n, t in wanted.items()}, history.before, history.changed
    _write(wanted, file.tensors)
    history.before = history.before or file.found.original.samples
    history.changed |= wanted.keys()


def unload_base(handle: Handle) -> None:
    """Put back the original that `load_base` kept; see `graftwork.Adapters.unload_base`."""
    history = handle.base_history
    if history.kept is None:
        raise CheckpointError("no original is kept; give load_base(folder, keep=True) to be able to go back")
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
    """Write values into the model's tensors, in place, so that their version counters show the change."""
    for name, tensor in wanted.items():
        tensor.copy_(given[name])


def _read(folder: Path) -> DifferenceFile:
    found, _ = manifest_in(folder)
    if not isinstance(found, Difference):
        what = "a composition" if isinstance(found, CompositionManifest) else f"the {title(found)}"
        raise CheckpointError(f"{folder} holds {what}, not the difference of a base; use load()")
    path = folder / TENSORS["base"]
    tensors, sha256 = read_tensors(path)
    unlike = sorted(tensors.keys() ^ set(found.tensors))
    if unlike:
        what = "not expected" if unlike[0] in tensors else "missing"
        raise CheckpointError(
            f"{path} does not hold the tensors that {MANIFEST} next to it names: {what}: {unlike[0]}; copy both from one save"
        )
    require_written_with(path, sha256, found.sha256)
    return DifferenceFile(folder, found, tensors)


def _require_same_kind(handle: Handle, file: DifferenceFile, tensors: Tensors) -> None:
    """Refuse a base of another type, other sizes or other tensors than the original, whatever its weights."""
    original = file.found.original
    other = original.misfit(Fingerprint.of(handle, sample=False))
    lacking = [name for name in original.samples if name not in tensors]
    extra = [name for name in tensors if name not in original.samples]
    only = [
        f"{names[0]!r} is in {where} only" for names, where in ((lacking, "its base"), (extra, "this one")) if names
    ]
    if other is None and only:
        other = f"a {original.model_type!r} model of the same size with other tensors: {'; '.join(only)}"
    if other is not None:
        raise CheckpointError(f"{file.where} was made over {other}")


def _is_trained(file: DifferenceFile, tensors: Tensors) -> bool:
    """Whether a base is the trained one already, or the original; any other base is refused."""
    original = file.found.original.samples
    here = {name: sampled(tensors[name]) for name in original}
    # a weight that is quantised has no sample and is not compared
    unlike = [n for n, sample in original.items() if sample and here[n] and not same(sample, here[n])]
    if not unlike:
        return False
    trained = {name: t for name, t in file.tensors.items() if not name.startswith(OWN_HEAD)}
    fixed = [name for name in unlike if name not in trained]
    if not fixed and all(same_bits(t.to(tensors[n].dtype), tensors[n]) for n, t in trained.items()):
        return True
    raise CheckpointError(
        f"{file.where} was made over another base: {len(unlike)} of {len(original)} weights differ, such as "
        f"{(fixed or unlike)[0]!r}; load it on the original that it was trained from, in which nothing was trained and no "
        "other difference loaded (unload_base() takes one back that was loaded with keep=True)"
    )


def _wanted(handle: Handle, file: DifferenceFile, tensors: Tensors) -> Tensors:
    """Return the model's tensors that a difference is written into; refuse them if they do not fit the file."""
    given = file.tensors
    if file.found.model_class != type(handle.model).__name__:
        if any(name.startswith(OWN_HEAD) for name in given):
            logger.warning("%s: its head is that of a %s and is left aside", file.where, file.found.model_class)
        given = {name: tensor for name, tensor in given.items() if not name.startswith(OWN_HEAD)}
    wanted = {n: t for n, t in {**tensors, **own_head(handle)}.items() if n in given}
    require_fit(wanted, given, file.where)
    fixed = next((name for name, tensor in wanted.items() if tensor.is_inference()), None)
    if fixed is not None:
        raise CheckpointError(
            f"{file.where}: {fixed!r} was made in torch.inference_mode() and cannot be written; load the model outside it"
        )
    return wanted


def _originals(handle: Handle, tensors: Tensors, against: nn.Module | Mapping[str, Tensor]) -> Tensors:
    """Return the original of every tensor of the base, by name; refuse another model."""
    start = ""
    if isinstance(against, nn.Module):
        prefix = getattr(against, "base_model_prefix", "")
        start = f"{prefix}." if prefix and hasattr(against, prefix) else ""
        against = against.state_dict()  # a tied tensor is there under each of its names
    found = {}
    for name, tensor in tensors.items():
        names = (handle.sites.prefix + name, start + name, name)
        original = next((against[known] for known in names if known in against), None)
        if original is None or original.shape != tensor.shape:
            what = "lacks it" if original is None else f"has it as {tuple(original.shape)}"
            raise CheckpointError(
                f"against= is another model: the base has {name!r} of the shape {tuple(tensor.shape)}, it {what}; give "
                "the original of the same class, or its state_dict()"
            )
        found[name] = original
    return found
