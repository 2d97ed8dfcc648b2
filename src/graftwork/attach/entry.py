"""The hooks of the modules that open a frame: the model, and every module around the blocks that is called by itself."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach.checkpointing import bind_checkpointing
from graftwork.attach.heads import Labels
from graftwork.attach.inputs import Call, refuse_embedded, refuse_unseen, repeat_rows
from graftwork.attach.ports import ENTRY, Entry
from graftwork.attach.runtime import Frame, Runtime

_settings = threading.RLock()
_CALL = nn.Module._call_impl.__code__


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
        return None
    if module.training:
        bind_checkpointing(handle)
    call = Call(entry.parameters, args, kwargs)
    if plan.mixing:
        refuse_unseen(plan.mixing, call)
    if plan.looked_up is not None:
        refuse_embedded(plan.looked_up, plan.composition, call)
    changed = None
    if plan.replicate is not None:
        changed = repeat_rows(plan.replicate, call, args, kwargs)
        call = Call(entry.parameters, *changed)
    if plan.prompt is not None:
        plan.prompt.require_whole(handle.model, module)
    frame = Frame(plan, module, call, runtime.record)
    if handle.head_paths and call.named.get("labels") is not None:
        _say_labels(frame, handle, plan.labels)
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
        for layer in frame.asked.values() if output is not None else ():
            layer.require_beneath(frame.asked, frame.plan.composition)
    finally:
        _close(runtime, frame)
    if output is None or runtime.handle is None:
        return None
    if frame.losses:
        runtime.local.losses = tuple(frame.losses)
    if not module.training:
        return None
    return _with_extra_losses(output, runtime.handle.auxiliary_loss_or_none(), frame.call.named.get("labels"))


def _close(runtime: Runtime, frame: Frame) -> None:
    runtime.local.frame = None
    frame.closed = True
    frame.taps.clear()
    frame.gates.clear()
    if frame.settings is not None:
        _restore_labels(frame)


def _interrupted(frame: Frame, module: nn.Module) -> bool:
    """Whether the call that opened the frame has ended unseen: torch runs no hooks after a KeyboardInterrupt."""
    if frame.opener is None or frame.compiled or torch.compiler.is_compiling():
        return False
    calls = 1 if frame.opener is module else 0  # the call that we are at the start of is on the stack too
    caller: FrameType | None = sys._getframe(1)
    while caller is not None:
        if caller.f_code is _CALL and caller.f_locals.get("self") is frame.opener:
            if not calls:
                return False
            calls -= 1
        caller = caller.f_back
    return True


def _with_extra_losses(output: Any, extra: Tensor | None, labels: Any) -> Any:
    if extra is None:
        return None
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        is_loss = labels is not None and isinstance(output[0], Tensor) and output[0].dim() == 0
        return (output[0] + extra.to(output[0].device), *output[1:]) if is_loss else None
    loss = output.get("loss") if hasattr(output, "get") else getattr(output, "loss", None)
    if loss is not None:
        output["loss"] = loss + extra.to(loss.device)
    return None


def _say_labels(frame: Frame, handle: Any, name: str | None) -> None:
    """Have the model compute its loss for the labels of the head in use, ``None`` for its own.

    A model reads them from its configuration, which is one for all threads: where heads differ it is held until the
    forward ends.
    """
    config, wanted = handle.model.config, None if name is None else handle.labels(name)
    if not handle.labels_differ and wanted in (None, Labels.of(config)):
        return
    if not frame.compiled:  # compiled code knows no locks
        _settings.acquire()
    now, model = Labels.of(config), handle.model
    frame.settings = (config, now, model, getattr(model, "num_labels", None), handle, name)
    if wanted not in (None, now):
        set_labels(model, wanted)


def _restore_labels(frame: Frame) -> None:
    config, before, model, number, handle, name = frame.settings  # type: ignore[misc]
    learned = getattr(config, "problem_type", None)
    set_labels(model, before)
    if number is not None:
        model.num_labels = number
    frame.settings = None
    if not frame.compiled:
        _settings.release()
    handle.learned_problem_type(name, learned)


def set_labels(model: Any, labels: Labels) -> None:
    """Write labels into a model's configuration."""
    model.config.id2label = dict(enumerate(labels.names))
    model.config.label2id = {name: n for n, name in enumerate(labels.names)}
    model.config.problem_type = labels.problem_type
    if hasattr(model, "num_labels"):
        model.num_labels = len(labels.names)
