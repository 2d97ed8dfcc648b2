"""Gradient checkpointing: a block that is recomputed in the backward pass must use the composition it was run with.

The recomputation happens after the forward ended and after `using` was left, on a GPU on another thread. transformers routes it
through each module's ``_gradient_checkpointing_func``, which is wrapped here; for checkpointing of the user's own there is
`bind`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graftwork.errors import AttachError
from graftwork.forward.frame import Frame
from graftwork.forward.runtime import AttachedModel, Runtime


class Bound:
    """A function bound to the frame of its first call; later calls replay that frame."""

    def __init__(self, function: Callable[..., Any], runtime: Runtime, frame: Frame) -> None:
        self.function = function
        self.runtime = runtime
        self.frame = frame
        self.replay = frame.snapshot()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.runtime.frame is self.frame and not self.frame.closed and not recomputing():
            if self.frame.plan.crossing and self.frame.graded and not torch.is_grad_enabled():
                raise AttachError(
                    f"{self.frame.plan.composition!r} reads hidden states of other layers, to which reentrant checkpointing "
                    "leads no gradients back; use gradient_checkpointing_enable({'use_reentrant': False})"
                )
            self.frame.bound += 1
            try:
                return self.function(*args, **kwargs)
            finally:
                self.frame.bound -= 1
        local, outer = self.runtime.local, self.runtime.frame
        local.frame = self.replay.snapshot()
        try:
            return self.function(*args, **kwargs)
        finally:
            local.frame = outer


def recomputing() -> bool:
    """Whether a backward pass is under way in this thread."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class CheckpointFunction:
    """A checkpointing function as transformers stores it on a module, with what it runs bound to the frame."""

    def __init__(self, function: Callable[..., Any], runtime: Runtime) -> None:
        self.function = function
        self.runtime = runtime

    def __call__(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        frame = self.runtime.frame
        if frame is None:
            return self.function(run, *args, **kwargs)
        reentrant = isinstance(self.function, functools.partial) and self.function.keywords.get("use_reentrant", True)
        if reentrant and torch.is_grad_enabled():
            args = _with_gradient(args)
        return self.function(Bound(run, self.runtime, frame), *args, **kwargs)


def _with_gradient(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments, one of which requires a gradient: without, reentrant checkpointing computes none inside the block."""
    if not any(isinstance(a, Tensor) and a.requires_grad for a in args):
        for n, a in enumerate(args):
            if isinstance(a, Tensor) and a.is_floating_point():
                return (*args[:n], a.detach().requires_grad_(), *args[n + 1 :])
    return args


def bind_checkpointing(handle: AttachedModel) -> None:
    """Wrap the checkpointing functions of the model's modules that are not wrapped yet."""
    for module in handle.checkpointed_modules():
        function = module.__dict__.get("_gradient_checkpointing_func")
        if function is not None and not isinstance(function, CheckpointFunction):
            module.__dict__["_gradient_checkpointing_func"] = CheckpointFunction(function, handle.runtime)


def unbind_checkpointing(handle: AttachedModel) -> None:
    """Put the original checkpointing functions back."""
    for module in handle.checkpointed_modules():
        function = module.__dict__.get("_gradient_checkpointing_func")
        if isinstance(function, CheckpointFunction):
            module.__dict__["_gradient_checkpointing_func"] = function.function
