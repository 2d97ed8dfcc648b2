"""Refusals of models that are wrapped for several devices.

Attach first, then wrap: DistributedDataParallel treats adapters like any weights, and `fully_shard` leaves them out
(`graftwork.attach.sharded_base`). DataParallel cannot be used: its replicas are shallow copies made for one call, whose hooks
find the adapters of the first device.
"""

from __future__ import annotations

from torch import nn

from graftwork.attach.sharded_base import refuse_empty_ranks, refuse_zero
from graftwork.attach.state import ModelState
from graftwork.errors import AttachError
from graftwork.weights.samples import is_sharded

_WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "DeepSpeedEngine")
_INSTEAD = (
    "give each GPU a process of its own (accelerate launch, or torchrun, with DistributedDataParallel), or use one GPU "
    "(CUDA_VISIBLE_DEVICES=0)"
)


def refuse_parallel(model: nn.Module) -> None:
    """Refuse a model that is wrapped or sharded already."""
    name = type(model).__name__
    if name == "DataParallel":
        raise AttachError(
            f"the model is wrapped in DataParallel, whose replicas do not take adapters along; {_INSTEAD}"
        )
    if name in _WRAPPERS:
        raise AttachError(f"the model is wrapped in {name}; attach to the model inside it first, then wrap")
    refuse_empty_ranks()
    refuse_zero(dict(model.named_parameters()))
    sharded = next((path for path, p in model.named_parameters() if is_sharded(p)), None)
    if sharded is not None:
        raise AttachError(
            f"the model is sharded already ({sharded!r} is a DTensor): its sites cannot be found, nor adapters made in it; "
            "attach and add the adapters first, then call fully_shard"
        )


def refuse_replica(state: ModelState, module: nn.Module) -> None:
    """Refuse a forward pass of a replica that DataParallel made."""
    if module.__dict__.get("_is_replica") and state.parts:
        raise AttachError(
            f"DataParallel runs a replica of this {type(module).__name__}, which would compute with the adapters of the first "
            f"device; {_INSTEAD}"
        )
