"""The hooks of the modules that open a frame: the model, and every module around its blocks that can be called by itself."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from graftwork.forward.call_inputs import Call, repeat_rows
from graftwork.forward.extra_losses import add_extra_losses
from graftwork.forward.frame import Frame
from graftwork.forward.gradient_checkpointing import bind_checkpointing
from graftwork.forward.ports import ENTRY, Entry
from graftwork.forward.refused_calls import refuse_caller, refuse_inputs
from graftwork.forward.runtime import Runtime
from graftwork.forward.shared_trunk import repeats_in
from graftwork.forward.shown_labels import begin, end, runs_in


def enter(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook: open the frame, if this is the outermost of our modules."""
    entry: Entry = module.__dict__[ENTRY]
    runtime = entry.runtime
    frame = runtime.frame
    if frame is not None and _interrupted(frame, module):
        _close(runtime, frame)
        frame = None
    if frame is not None:
        if frame.opener is module:
            frame.depth += 1
        return None
    handle = runtime.handle
    if handle is None:
        return None
    handle.before_forward(module)
    if runtime.losses:
        runtime.local.losses = ()
    plan = runtime.current_plan()
    if plan is None:
        if handle.shown_labels.name is None:
            return None
        plan = runtime.plain  # the plain model in this thread, while the configuration has the labels of a head
    refuse_caller(plan, handle.model)
    if module.training:
        bind_checkpointing(handle)
    call = Call(entry.parameters, args, kwargs)
    refuse_inputs(plan, call)
    changed = None
    if plan.replicate is not None:
        changed = repeat_rows(plan.replicate, call, args, kwargs)
        call = Call(entry.parameters, *changed)
    if plan.prompt is not None:
        plan.prompt.require_whole(handle.model, module)
    frame = Frame(plan, module, call, runtime.record)
    frame.repeats = repeats_in(plan, call, handle.model)
    if handle.head_paths and call.named.get("labels") is not None:
        begin(frame, handle, plan.labels)
    runtime.local.frame = frame
    return changed


def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook, run also when the forward raised: close the frame, add the extra losses."""
    runtime = module.__dict__[ENTRY].runtime
    frame = runtime.frame
    if frame is None or frame.opener is not module:
        return None
    frame.depth -= 1
    if frame.depth:
        return None
    try:
        for layer in frame.computed.values() if output is not None else ():
            layer.require_beneath(frame.computed, frame.plan.composition)
    finally:
        _close(runtime, frame)
    if output is None or runtime.handle is None:
        return None
    if frame.losses:
        runtime.local.losses = tuple(frame.losses)
    return add_extra_losses(output, runtime, frame) if module.training and frame.plan is not runtime.plain else None


def _close(runtime: Runtime, frame: Frame) -> None:
    runtime.local.frame = None
    frame.closed = True
    frame.taps.clear()
    frame.gates.clear()
    end(frame)


def _interrupted(frame: Frame, module: nn.Module) -> bool:
    """Whether the call that opened the frame ended without its hook: torch runs none after a KeyboardInterrupt."""
    if frame.opener is None or frame.compiled or torch.compiler.is_compiling():
        return False
    calls = 1 if frame.opener is module else 0  # the call that starts here is on the stack too
    return not runs_in(sys._getframe(1), frame.opener, calls)
