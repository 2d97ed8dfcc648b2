"""Extra losses: how what learns adds a loss of its own to that of the model, once for each step of the optimiser.

A fusion pulls its values to the identity, a mixture of experts balances its gates. In training these are added to the loss
that the model returns. Where the model returns none (the labels were kept from it, for label smoothing say) whoever computes
the loss adds `Handle.auxiliary_loss`; `AdapterTrainer` does, and a training that does not is warned before its first step.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.forward.frame import Frame
from graftwork.forward.refused_calls import layerdrops
from graftwork.forward.runtime import Runtime

_IGNORED = -100


class _Owed:
    """The extra losses of one forward pass that returned no loss; ``paid`` when somebody asked for them."""

    def __init__(self, composition: Any) -> None:
        self.composition = composition
        self.paid = False

    def check(self, _: Tensor) -> None:
        """Warn, if gradients are computed and the extra losses have no part in them; a hook on what the model returned."""
        if not self.paid:
            self.paid = True
            warnings.warn(
                f"{self.composition!r} has extra losses, and gradients are computed without them: the model was given no labels, "
                "and the loss was made of its outputs. Add adapters.auxiliary_loss() to your loss; with a Trainer that smooths "
                "labels or has a compute_loss_func use graftwork.training.AdapterTrainer, which adds them",
                UserWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def added_apart(runtime: Runtime) -> Iterator[None]:
    """Inside, in this thread, the model's loss is its own alone: the caller adds the extra losses."""
    local = runtime.local
    before = getattr(local, "added_apart", False)
    local.added_apart = True
    try:
        yield
    finally:
        local.added_apart = before


def pay(runtime: Runtime) -> None:
    """Take down that the extra losses of this thread's last forward pass were asked for."""
    owed: _Owed | None = getattr(runtime.local, "owed", None)
    if owed is not None:
        owed.paid = True


def add_extra_losses(output: Any, runtime: Runtime, frame: Frame) -> Any:
    """Add the extra losses to the loss in a model's output; returns another output, or ``None`` where it stays the same."""
    runtime.local.owed = None
    if getattr(runtime.local, "added_apart", False) or runtime.handle is None:
        return None
    owing = runtime.handle.extra_losses()
    extra = _of_dropped_layers(runtime.handle.model) if owing is None else owing
    if extra is None:
        return None
    labels = frame.call.named.get("labels")
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        if labels is not None and isinstance(output[0], Tensor) and output[0].dim() == 0:
            return (output[0] + _share(extra, frame, runtime.handle.model).to(output[0].device), *output[1:])
    else:
        loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
        if loss is not None:
            output["loss"] = loss + _share(extra, frame, runtime.handle.model).to(loss.device)
            return None
    if owing is not None and owing.requires_grad and not frame.compiled:
        owed = runtime.local.owed = _Owed(frame.plan.composition)
        for tensor in _differentiable(output):
            tensor.register_hook(owed.check)
    return None


def _of_dropped_layers(model: nn.Module) -> Tensor | None:
    """Zero, with all that learns in it, where the model may leave out every layer that has some (LayerDrop); else ``None``.

    A loss without a gradient would end the training at that step.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not layerdrops(model):
        return None
    learning = [p.sum() for p in model.parameters() if p.requires_grad]
    return 0.0 * torch.stack([one.to(learning[0].device) for one in learning]).sum() if learning else None


def _share(extra: Tensor, frame: Frame, model: Any) -> Tensor:
    """This call's share of the extra losses.

    A loss that is a sum over ``num_items_in_batch`` is one of several that are added up, each for its share of the items: so
    are the extra ones, and count once altogether.
    """
    items = frame.call.named.get("num_items_in_batch")
    labels = frame.call.named.get("shift_labels")
    if labels is None:
        labels = frame.call.named.get("labels")
        if isinstance(labels, Tensor) and _shifts(model):
            labels = labels[..., 1:]
    if items is None or not isinstance(labels, Tensor):
        return extra
    return extra * (labels.ne(_IGNORED).sum().to(extra) / items)


def _shifts(model: Any) -> bool:
    """Whether a model's loss is that of the next word: the first label of a row is nothing that it predicts."""
    next_word = getattr(getattr(model, "loss_function", None), "__name__", "") == "ForCausalLMLoss"
    return next_word and not getattr(getattr(model, "config", None), "is_encoder_decoder", False)


def _differentiable(output: Any) -> list[Tensor]:
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else (output,)
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]
