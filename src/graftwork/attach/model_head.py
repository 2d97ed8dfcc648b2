"""Copies of the model's own head, of which each adapter owns one.

The head of an ``AutoModelForX`` is what its class adds to the base model (`graftwork.attach.finding_heads`). Output embeddings
are not part of it: tied to the input embeddings or not, they belong to the base and stay frozen.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach.finding_heads import output_embeddings, task_model
from graftwork.errors import AttachError, ConfigError
from graftwork.forward.heads_in_use import Labels
from graftwork.forward.ports import uninstall
from graftwork.weights.holder import base_modules
from graftwork.weights.names import RESERVED
from graftwork.weights.offload import settled
from graftwork.weights.quantised import unquantised
from graftwork.weights.sharded import refuse_shards


def shared_weights(model: nn.Module) -> dict[int, nn.Parameter]:
    """The weights that a copied head shares with the base, by identity: the base's own and the output embeddings."""
    _, model = task_model(model)
    output = output_embeddings(model)
    shared = {} if output is None else {id(p): p for p in output.parameters(recurse=False) if p is output.weight}
    base = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and base is not model:
        shared.update({id(p): p for _, m in base_modules(base) for p in m._parameters.values() if p is not None})
    return shared


def copied(head: nn.Module, shared: Mapping[int, nn.Parameter]) -> nn.Module:
    """A copy of a head module without hooks of graftwork; weights shared with the base are referred to, not registered."""
    refuse_shards(head, f"each adapter owns a copy of the head {type(head).__name__}")
    if any(id(p) in shared and p.is_meta for p in head.parameters()) and settled(head) is not head:
        raise AttachError(
            f"the head {type(head).__name__} has weights in common with the base (its word embeddings), which accelerate "
            "offloads; keep the embeddings and the head on one device in the device_map"
        )
    head = unquantised(settled(head))
    made = copy.deepcopy(head, dict(shared))
    for module in list(made.modules()):
        uninstall(module)
        module._modules.pop(RESERVED, None)
        for name, p in list(module._parameters.items()):
            if p is not None and id(p) in shared:
                del module._parameters[name]
                module.__dict__[name] = p
            elif p is not None and p.dtype in (torch.float16, torch.bfloat16):
                p.data = p.data.float()  # trained weights are float32
    return made


def resized(model: Any, heads: Mapping[str, nn.Module], labels: Labels) -> None:
    """Give copied heads another number of labels; weights whose shape changes are initialised anew."""
    changed = 0
    start, model = task_model(model)
    if hasattr(getattr(model, "config", None), "num_labels"):
        config = copy.deepcopy(model.config)
        config.num_labels = len(labels.names)
        with torch.device("meta"):
            wanted = type(model)(config)
        for path, head in heads.items():
            plain = path.removeprefix(f"{start}.").partition(".modules_to_save.")[0]  # its path without peft
            changed += _reshape(head, wanted.get_submodule(plain), getattr(config, "initializer_range", 0.02))
    if not changed and len(labels.names) != len(Labels.of(getattr(model, "config", None)).names):
        raise ConfigError(f"the head of {type(model).__name__} does not depend on a number of labels; give a module")


def _reshape(head: nn.Module, wanted: nn.Module, std: float) -> int:
    """Give a head's weights the shapes of ``wanted``; returns how many changed."""
    shapes = dict(wanted.named_parameters())
    changed = [(name, p) for name, p in head.named_parameters() if shapes[name].shape != p.shape]
    for name, p in changed:
        owner = head.get_submodule(name.rpartition(".")[0])
        new = torch.zeros(shapes[name].shape, dtype=p.dtype, device=p.device)
        if new.dim() > 1:
            nn.init.normal_(new, std=std)
        setattr(owner, name.rpartition(".")[2], nn.Parameter(new))
        if isinstance(owner, nn.Linear):
            owner.out_features, owner.in_features = owner.weight.shape
    return len(changed)


def follow_vocabulary(model: nn.Module, heads: Mapping[str, nn.Module]) -> None:
    """Resize copies of a head, by path, to the model's vocabulary; new words get the values of the model's own head."""
    output = output_embeddings(task_model(model)[1])
    weight = getattr(output, "weight", None)
    if not isinstance(weight, Tensor):
        return
    for path, head in heads.items():
        own = model.get_submodule(path)
        if output not in set(own.modules()):
            continue
        originals = dict(own.named_parameters())
        for name, p in head.named_parameters():
            original = originals.get(name)
            if original is None or original.shape[1:] != p.shape[1:]:
                continue
            if len(original) == len(weight) != len(p):
                resized_values = original.detach().to(p, copy=True)
                resized_values[: len(p)] = p.detach()[: len(original)]
                p.data, p.grad = resized_values, None
