"""What happens before a forward pass in training where several ranks share the weights of the base."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch import Tensor, nn

from graftwork.attach.base_weights import note_samples
from graftwork.attach.state import ModelState
from graftwork.errors import AttachError
from graftwork.weights.names import RESERVED
from graftwork.weights.samples import is_sharded
from graftwork.weights.sharded import Replicas, ranks_launched, sharded_part, sharded_too


def follow_sharding(state: ModelState, replicas: Replicas) -> None:
    """Keep the trained adapters equal on all ranks where the base is sharded; all ranks call it.

    Raises:
        AttachError: If they cannot be: they are sharded themselves, weights of the base are trained, or the base is not
            sharded by `fully_shard` but by DeepSpeed or the first version of FSDP.
    """
    weights = dict(state.model.named_parameters())
    trained = {name: p for name, p in weights.items() if p.requires_grad}
    refuse_zero(weights)
    if sharded_part(state.model) is None:
        _refuse_first_fsdp(weights, trained)
        replicas.follow(state.model, {})
        return
    for name, p in trained.items():
        if is_sharded(p):
            raise sharded_too(name)
    if not replicas:
        note_samples(state)
    replicas.follow(state.model, trained)


def refuse_empty_ranks() -> None:
    """Refuse what `accelerate launch` may be told: that only the first rank loads the base.

    Raises:
        AttachError: If it was.
    """
    wanted = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
    if ranks_launched() > 1 and all(os.environ.get(name, "").lower() == value for name, value in wanted.items()):
        raise AttachError(
            "accelerate was launched with fsdp_cpu_ram_efficient_loading (its default), with which it shards every weight of "
            "the model, and adapters have to be whole on every rank; give --fsdp_cpu_ram_efficient_loading false"
        )


def refuse_zero(weights: Mapping[str, Tensor]) -> None:
    """Refuse a model that DeepSpeed has partitioned.

    Raises:
        AttachError: Naming a weight.
    """
    name = next((name for name, p in weights.items() if hasattr(p, "ds_id")), None)
    if name is not None:
        raise AttachError(
            f"DeepSpeed's ZeRO-3 has partitioned {name!r}: adapters need a base that is whole on each rank (ZeRO stage 1 or 2), "
            "or sharded by torch (FSDP of accelerate with fsdp_version=2)"
        )


def _refuse_first_fsdp(weights: Mapping[str, Tensor], trained: Mapping[str, nn.Parameter]) -> None:
    """Refuse weights that the first version of FSDP was told to ignore: nobody would reduce their gradients."""
    flat = {name for name, p in weights.items() if hasattr(p, "_fsdp_flattened") or name.endswith("_flat_param")}
    no_base = all(RESERVED in name.split(".") for name in weights)  # a flat parameter of the wrapper around the model
    ignored = next((name for name in trained if name not in flat), None)
    if ignored is not None and (flat or no_base):
        raise AttachError(
            f"the first version of FSDP ignores {ignored!r}, so that its gradients would differ between ranks; give "
            "fsdp_version=2"
        )
