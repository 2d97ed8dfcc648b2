"""The state of a training: what learns, written and put back in place; the frozen base never.

A folder gets ``graftwork/``, the active composition with the adapters and fusions that learn (`load` reads it too), and
``graftwork_base.safetensors``, what else learns: the model's own head, norms of the base, the base itself.
"""

from __future__ import annotations

from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.folders import replace_file
from graftwork.checkpoint.loading import matched
from graftwork.checkpoint.naming import head_records, tensors_of
from graftwork.checkpoint.saving import save_composition
from graftwork.checkpoint.tensors import Tensors, decode, encode, fill, require_fit
from graftwork.errors import CheckpointError
from graftwork.weights.names import RESERVED, full_name

FOLDER = "graftwork"
REST = "graftwork_base.safetensors"


def save_progress(handle: Handle, folder: Path) -> None:
    """Write everything that learns into a folder, beside what else is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if handle.trainable:
        save_composition(handle, handle.active, folder / FOLDER, handle.trainable_parts)
    rest = other_learners(handle)
    if rest:
        replace_file(folder / REST, encode(rest))
    else:
        (folder / REST).unlink(missing_ok=True)


def has_progress(folder: Path) -> bool:
    """Whether `save_progress` wrote into a folder."""
    return (folder / FOLDER).is_dir() or (folder / REST).is_file()


def restore_progress(handle: Handle, folder: Path) -> None:
    """Put back what `save_progress` wrote; what learns now must be what learned then.

    Raises:
        UnknownNameError: If an adapter or a fusion is not there.
        CheckpointError: If anything does not fit; nothing is changed then.
    """
    rest, path = other_learners(handle), folder / REST
    given = decode(path.read_bytes(), path) if path.is_file() else {}
    require_fit(rest, given, str(path))
    learning = handle.trainable_parts
    parts = matched(handle, folder / FOLDER, learning, other_base=bool(rest)) if learning else []
    if not handle.trainable and (folder / FOLDER).is_dir():
        raise CheckpointError(f"{folder} holds adapters that learned; call train_only as when the training began")
    fill(rest, given)
    for file, wanted in parts:
        fill(wanted, file.tensors)
        for member, head in head_records(file.part).items():
            owner = full_name(file.part.name, member) if member else file.part.name
            handle.learned_problem_type(owner, head.labels.problem_type)


def other_learners(handle: Handle) -> Tensors:
    """What learns beside the adapters and fusions, by its name in the model; with a trained base its buffers too."""
    known = {id(t) for name in handle.trainable_parts for t in tensors_of(handle, name).values()}
    parameters = {id(p) for p in handle.model.parameters()}
    found: Tensors = {}
    for name, tensor in handle.model.state_dict(keep_vars=True).items():
        learns = tensor.requires_grad
        if handle.base_mode == "trained" and id(tensor) not in parameters:
            learns = RESERVED not in name.split(".")  # statistics of the base
        if learns and id(tensor) not in known:
            known.add(id(tensor))
            found[name] = tensor
    return found
