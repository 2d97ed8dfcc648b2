"""The hooks: plain functions on plain modules, which find their work in the module they are called with.

A closure would tie a copied model to the original's weights, and cannot be pickled. What a module has to do is in its `Ports`, a
plain object in the module's ``__dict__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import AttachError, CompositionError
from graftwork.forward.frame import Frame
from graftwork.forward.gradient_checkpointing import recomputing
from graftwork.forward.ports import PORTS, Ports
from graftwork.forward.site_output import write, written
from graftwork.forward.stand_ins import Override, StandIns
from graftwork.forward.work import work_of
from graftwork.weights.names import RESERVED


def before(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook: count the call, additions to inputs, inputs to carry."""
    ports: Ports = module.__dict__[PORTS]
    frame = _frame(ports, module)
    work = None if frame is None else work_of(ports, frame.plan)
    if frame is None or work is None:
        return None
    for number in ports.restarts:
        frame.counts[number] = 0
    if ports.counted:
        frame.counts[ports.number] = frame.counts.get(ports.number, 0) + 1
    call = 0 if ports.counter is None else _call(frame, ports.counter)
    changed = False
    for at, slot, site, stream in work.entries:
        if at == call:
            place = _place(ports, slot, args, kwargs)
            if isinstance(place, str):
                kwargs = {**kwargs, place: written(frame, ports, module, site, stream, kwargs[place])}
            else:
                args = (*args[:place], written(frame, ports, module, site, stream, args[place]), *args[place + 1 :])
            changed = True
    for when, slot, site, role in work.inputs:
        if when is None or when == call:
            frame.taps[site, role] = _input(ports, slot, args, kwargs)
    return (args, kwargs) if changed else None


def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook: an adapter's own norm or head in place of the base's, additions, outputs to carry."""
    ports: Ports = module.__dict__[PORTS]
    frame = _frame(ports, module)
    work = None if frame is None else work_of(ports, frame.plan)
    if frame is None or work is None:
        return None
    changed = output
    norm = None if work.norm is None else frame.norm(work.norm)
    if norm is not None:
        changed = norm(args[0] if args else next(iter(kwargs.values())))
    if work.head is not None:
        changed = _run_head(module, frame.plan.heads[work.head], frame, args, kwargs)
    for place, site, role in work.own_inputs:
        frame.taps[site, role] = _input(ports, place, args, kwargs)
    call = 0 if ports.counter is None else _call(frame, ports.counter)
    for when, slot, site, stream in work.writes:
        if when is None or when == call:
            changed = write(frame, ports, module, site, stream, slot, changed)
    for when, slot, site, role in work.outputs:
        if when is None or when == call:
            frame.taps[site, role] = changed if slot is None else changed[slot]
    return changed


def _call(frame: Frame, counter: int) -> int:
    """The number of the call under way, by the counter of the module or of its block."""
    return frame.counts.get(counter, 1) - 1


def _frame(ports: Ports, module: nn.Module) -> Frame | None:
    """The frame under way; a module that has work to do is refused where there is none."""
    runtime = ports.runtime
    frame: Frame | None = getattr(runtime.local, "frame", None)
    if frame is not None:
        if frame.graded and not frame.bound and not torch.is_grad_enabled() and frame.opener is not None:
            runtime.unbound = True  # checkpointed reentrantly
        return frame
    plan = runtime.current_plan()
    work = None if plan is None else work_of(ports, plan)
    if (work is not None and work.changes) if plan is not None else runtime.unbound and recomputing():
        active = "nothing" if plan is None else repr(plan.composition)
        raise AttachError(
            f"{ports.path or 'the model'} ({type(module).__name__}) runs outside the model's forward, while {active} is active: "
            "call the model itself, model(...), not model.forward(...) and not its parts one by one; with gradient "
            "checkpointing of your own, wrap the checkpointed function with `adapters.bind(fn)`; to run a part alone, set "
            "`adapters.active = None`"
        )
    return None


def _input(ports: Ports, slot: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """An input of this call."""
    place = _place(ports, slot, args, kwargs)
    return kwargs[place] if isinstance(place, str) else args[place]  # type: ignore[no-any-return]


def _place(ports: Ports, slot: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | str:
    """Where an input is in this call: its position or its name, whichever way it was given."""
    if isinstance(slot, str):
        if slot in kwargs:
            return slot
        if slot in ports.parameters and ports.parameters.index(slot) < len(args):
            return ports.parameters.index(slot)
    elif slot < len(args):
        return slot
    elif slot < len(ports.parameters) and ports.parameters[slot] in kwargs:
        return ports.parameters[slot]
    raise AttachError(
        f"the input {slot!r} of {ports.path!r} was there when the sites were found, and is not in this call"
    )


def _run_head(
    base: nn.Module, program: StandIns, frame: Frame, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    """The output of the heads that replace the model's own, one for all rows or one for each row."""
    if isinstance(program, nn.Module):
        return _head_output(program, base, args, kwargs)
    call = frame.call
    chosen = Override.bound(
        base, lambda head, rows: _head_output(head, base, (rows,), {}), program, call.rows, call.beams
    )
    chosen.on_rows = frame.on_rows
    if isinstance(chosen.choice, tuple):
        heads = [base if head is None else head for head in chosen.choice]
        parts = [part for head in heads for part in head.modules()]
        # Copies have the base's own parameters as plain attributes; their sizes say nothing of the output.
        tied = {id(p) for part in parts for p in part.__dict__.values() if isinstance(p, nn.Parameter)}
        sizes = {
            tuple(p.shape for n, p in head.named_parameters() if id(p) not in tied and RESERVED not in n.split("."))
            for head in heads
        }
        if len(sizes) > 1:
            raise CompositionError(
                f"{frame.plan.composition!r}: the rows use heads with outputs of different sizes, which do not fit one tensor; "
                "use adapters whose heads have equally many labels, or run them one after another"
            )
    return chosen(args[0] if args else next(iter(kwargs.values())))


def _head_output(head: nn.Module, base: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """A head's output, its float32 weights computed in the dtype of the model's own head."""
    if head is base:
        return head.forward(*args, **kwargs)  # type: ignore[no-any-return]
    weights = dict(head.named_parameters())
    dtype = next((p.dtype for p in base.parameters() if p.is_floating_point()), None)
    if dtype is None or all(p.dtype == dtype or not p.is_floating_point() for p in weights.values()):
        return head(*args, **kwargs)  # type: ignore[no-any-return]
    narrow = {name: p.to(dtype) if p.is_floating_point() else p for name, p in weights.items()}
    return torch.func.functional_call(head, narrow, args, dict(kwargs))  # type: ignore[no-any-return]
