"""The difference of a base as it lies on disk, and the bases that it may be put on."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from graftwork.attach import Handle
from graftwork.attach.base_weights import OWN_HEAD
from graftwork.checkpoint.fingerprint import Fingerprint
from graftwork.checkpoint.folders import MANIFEST, TENSORS, read_manifest, read_whole
from graftwork.checkpoint.manifest import AdapterManifest, Difference, parse, refused_where_too_deep
from graftwork.checkpoint.tensors import Tensors, decode, same_bits
from graftwork.errors import CheckpointError
from graftwork.weights.samples import same, sampled


@dataclasses.dataclass(frozen=True)
class DifferenceFile:
    """A difference, read whole."""

    folder: Path
    found: Difference
    tensors: Tensors

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"{self.folder} (difference of a base)"


def read_difference(folder: Path) -> DifferenceFile:
    """What a folder holds.

    Raises:
        CheckpointError: If it holds something else, or is damaged.
    """
    with refused_where_too_deep(folder):
        return read_whole(folder, _read)


def _read(folder: Path) -> DifferenceFile:
    found = parse(read_manifest(folder), str(folder / MANIFEST))
    if not isinstance(found, Difference):
        what = f"the {found.kind} {found.name!r}" if isinstance(found, AdapterManifest) else "a composition"
        raise CheckpointError(f"{folder} holds {what}, not the difference of a base; use load()")
    path = folder / TENSORS["base"]
    if not path.is_file():
        raise CheckpointError(f"{folder} lacks {path.name}; call save_base again, or copy the whole folder")
    data = path.read_bytes()
    tensors = decode(data, path)
    lacking = sorted(set(found.tensors) - tensors.keys())
    extra = sorted(tensors.keys() - set(found.tensors))
    if lacking or extra:
        what = f"missing: {lacking[0]}" if lacking else f"not expected: {extra[0]}"
        raise CheckpointError(f"{path} does not hold the tensors that {MANIFEST} beside it names: {what}")
    if hashlib.sha256(data).hexdigest() != found.sha256:
        raise CheckpointError(
            f"{path} is not the file that {MANIFEST} beside it was written with; copy both from one call of save_base"
        )
    return DifferenceFile(folder, found, tensors)


def require_same_kind(handle: Handle, file: DifferenceFile, tensors: Tensors) -> None:
    """Refuse a base of another type, other sizes or other tensors than the original of a difference, whatever its weights.

    Raises:
        CheckpointError: Naming what differs.
    """
    original = file.found.original
    other = original.differences(Fingerprint.of(handle, sample=False))
    lacking = [name for name in original.samples if name not in tensors]
    extra = [name for name in tensors if name not in original.samples]
    other += [
        f"{names[0]!r} is in {where} only" for names, where in ((lacking, "its base"), (extra, "this one")) if names
    ]
    if other:
        raise CheckpointError(
            f"{file.where} was made over another base ({original.model_class}) than that of {type(handle.model).__name__}: "
            f"{'; '.join(other)}"
        )


def is_trained(file: DifferenceFile, tensors: Tensors) -> bool:
    """Whether a base is the trained one already; ``False`` where it is the original.

    Args:
        file: The difference.
        tensors: Those of the base, by name.

    Raises:
        CheckpointError: If it is neither; names a weight.
    """
    original = file.found.original
    unlike = [name for name, sample in original.samples.items() if _differs(sample, sampled(tensors[name]))]
    if not unlike:
        return False
    trained = {name: t for name, t in file.tensors.items() if not name.startswith(OWN_HEAD)}
    fixed = [name for name in unlike if name not in trained]
    if not fixed and all(same_bits(t.to(tensors[n].dtype), tensors[n]) for n, t in trained.items()):
        return True
    raise CheckpointError(
        f"{file.where} was made over another base: {len(unlike)} of {len(original.samples)} weights differ, such as "
        f"{(fixed or unlike)[0]!r}; load it on the original that it was trained from, in which nothing was trained and no "
        "other difference loaded (unload_base() takes one back that was loaded with keep=True)"
    )


def _differs(one: tuple[float | None, ...], other: tuple[float | None, ...]) -> bool:
    """Whether two samples are of two weights; one that is quantised cannot be told."""
    return bool(one and other) and not same(one, other)
