"""The state of a training: what is trainable, written and put back in place; the frozen base never.

A folder gets ``graftwork/``, the active composition with the trainable adapters and fusions (`load` reads it too), and
``graftwork_base.safetensors`` with what else is trainable: the model's own head, norms of the base, the base itself.
"""

from __future__ import annotations

from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.folders import replace_file
from graftwork.checkpoint.loading import matched
from graftwork.checkpoint.naming import head_name, head_records, tensors_of
from graftwork.checkpoint.saving import save_composition
from graftwork.checkpoint.tensors import Tensors, encode, fill, read_tensors, require_fit
from graftwork.errors import CheckpointError
from graftwork.weights.names import RESERVED

FOLDER = "graftwork"
REST = "graftwork_base.safetensors"


def save_progress(handle: Handle, folder: Path) -> None:
    """Write everything that is trainable into a folder, in addition to what else is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    if handle.trainable:
        save_composition(handle, handle.active, folder / FOLDER, handle.trainable_parts)
    rest = _other_tensors(handle)
    if rest:
        replace_file(folder / REST, encode(rest))
    else:
        (folder / REST).unlink(missing_ok=True)


def has_progress(folder: Path) -> bool:
    """Whether `save_progress` wrote into a folder."""
    return (folder / FOLDER).is_dir() or (folder / REST).is_file()


def restore_progress(handle: Handle, folder: Path) -> None:
    """Put back what `save_progress` wrote; the same must be trainable as then.

    Raises:
        UnknownNameError: If an adapter or a fusion is not there.
        CheckpointError: If anything does not fit; nothing is changed then.
    """
    rest, path = _other_tensors(handle), folder / REST
    given = read_tensors(path)[0] if path.is_file() else {}
    require_fit(rest, given, str(path))
    names = handle.trainable_parts
    parts = matched(handle, folder / FOLDER, names, other_base=bool(rest)) if names else []
    if not handle.trainable and (folder / FOLDER).is_dir():
        raise CheckpointError(f"{folder} holds adapters that were trained; call train_only as when the training began")
    fill(rest, given)
    for file, wanted in parts:
        fill(wanted, file.tensors)
        for member, head in head_records(file.part).items():
            handle.learned_problem_type(head_name(file.part.name, member), head.labels.problem_type)


def _other_tensors(handle: Handle) -> Tensors:
    """The trainable tensors of the model in addition to adapters and fusions; with a trained base its buffers too."""
    known = {id(t) for name in handle.trainable_parts for t in tensors_of(handle, name).values()}
    parameters = {id(p) for p in handle.model.parameters()}
    found: Tensors = {}
    for name, tensor in handle.model.state_dict(keep_vars=True).items():
        is_trained = tensor.requires_grad
        if handle.base_mode == "trained" and id(tensor) not in parameters:
            is_trained = RESERVED not in name.split(".")  # statistics of the base
        if is_trained and id(tensor) not in known:
            known.add(id(tensor))
            found[name] = tensor
    return found
