"""Extra losses: losses of trainable modules, added to that of the model once for each step of the optimizer.

A fusion pulls its values to the identity, a mixture of experts balances its gates. In training these are added to the loss that
the model returns. Where the model returns none (it was given no labels, as with label smoothing), the code that computes the
loss adds `Handle.auxiliary_loss`. `AdapterTrainer` does; a training loop that does not is warned before its first step.
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
    """The extra losses of one forward pass that returned no loss; ``paid`` once they were asked for."""

    def __init__(self, composition: Any) -> None:
        self.composition = composition
        self.paid = False

    def check(self, _: Tensor) -> None:
        """Warn if gradients are computed without the extra losses; a hook on what the model returned."""
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
    """Inside, in this thread, the model's loss is without the extra losses: the caller adds them."""
    local = runtime.local
    before = getattr(local, "added_apart", False)
    local.added_apart = True
    try:
        yield
    finally:
        local.added_apart = before


def pay(runtime: Runtime) -> None:
    """Record that the extra losses of this thread's last forward pass were asked for."""
    owed: _Owed | None = getattr(runtime.local, "owed", None)
    if owed is not None:
        owed.paid = True


def add_extra_losses(output: Any, runtime: Runtime, frame: Frame) -> Any:
    """Add the extra losses to the loss in a model's output; return another output, or ``None`` where it is the same object."""
    runtime.local.owed = None
    if getattr(runtime.local, "added_apart", False) or runtime.handle is None:
        return None
    model = runtime.handle.model
    owing = runtime.handle.extra_losses()
    extra = _of_dropped_layers(model) if owing is None else owing
    if extra is None:
        return None
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        if frame.call.named.get("labels") is not None and isinstance(output[0], Tensor) and output[0].dim() == 0:
            return (_total(output[0], extra, frame, model), *output[1:])
    else:
        loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
        if loss is not None:
            output["loss"] = _total(loss, extra, frame, model)
            return None
    if owing is not None and owing.requires_grad and not frame.compiled:
        owed = runtime.local.owed = _Owed(frame.plan.composition)
        values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple) else (output,)
        for value in values:
            if isinstance(value, Tensor) and value.requires_grad:
                value.register_hook(owed.check)
    return None


def _of_dropped_layers(model: nn.Module) -> Tensor | None:
    """Zero with a gradient to all trainable weights, where the model may leave out every layer that has some (LayerDrop).

    A loss without a gradient would end the training at that step.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or not layerdrops(model):
        return None
    sums = [p.sum() for p in model.parameters() if p.requires_grad]
    return 0.0 * torch.stack([one.to(sums[0].device) for one in sums]).sum() if sums else None


def _total(loss: Tensor, extra: Tensor, frame: Frame, model: Any) -> Tensor:
    """The loss with this call's share of the extra losses.

    A loss that is a sum over ``num_items_in_batch`` is one of several that are added up, each for its share of the items. The
    extra losses take the same share, so that they count once.
    """
    named = frame.call.named
    items, labels = named.get("num_items_in_batch"), named.get("shift_labels")
    if labels is None:
        labels = named.get("labels")
        if isinstance(labels, Tensor) and predicts_next(model):
            labels = labels[..., 1:]
    if items is not None and isinstance(labels, Tensor):
        extra = extra * (labels.ne(_IGNORED).sum().to(extra) / items)
    return loss + extra.to(loss.device)


def predicts_next(model: Any) -> bool:
    """Return whether a model's loss is that of the next token: the first label of a row is not predicted."""
    next_token = getattr(getattr(model, "loss_function", None), "__name__", "") == "ForCausalLMLoss"
    return next_token and not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
