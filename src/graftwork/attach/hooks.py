"""The hooks: plain functions on plain modules, which find their work through the module they are called with.

A closure would tie a copied model to the original's weights, and cannot be pickled. What a module has to do is written
in its `Ports`, a plain object in the module's ``__dict__``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graftwork.attach.checkpointing import recomputing
from graftwork.attach.heads import run_head
from graftwork.attach.ports import PORTS, Ports
from graftwork.attach.runtime import Frame
from graftwork.attach.writing import write, written
from graftwork.errors import AttachError

if TYPE_CHECKING:
    from graftwork.attach.plan import Plan


def before(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook: count the call, additions to inputs, inputs to carry."""
    ports: Ports = module.__dict__[PORTS]
    frame = _frame(ports, module)
    if frame is None:
        return None
    for number in ports.restarts:
        frame.counts[number] = 0
    if ports.counted:
        frame.counts[ports.number] = frame.counts.get(ports.number, 0) + 1
    call = _call(frame, ports)
    start = given = (args, kwargs)
    for at, slot, site, stream in ports.entries:
        if at == call and site in (frame.plan.stream if stream else frame.plan.branch):
            value = _input(ports, slot, *given)
            given = _with_input(ports, slot, *given, written(frame, ports, site, stream, value))
    for at, slot, site, role in ports.inputs:
        if at == call and frame.wants(site, role):
            frame.carry(site, role, _input(ports, slot, *given))
    return None if given is start else given


def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook: an adapter's own norm or head in the place of the base's, additions, outputs to carry."""
    ports: Ports = module.__dict__[PORTS]
    frame = _frame(ports, module)
    if frame is None:
        return None
    changed = output
    if ports.norm is not None:
        norm = frame.norm(ports.norm)
        if norm is not None:
            changed = norm(args[0] if args else next(iter(kwargs.values())))
    if ports.head is not None and ports.head in frame.plan.heads:
        changed = run_head(module, frame.plan.heads[ports.head], frame, args, kwargs)
    call = _call(frame, ports)
    for at, slot, site, stream in ports.writes:
        if at == call:
            changed = write(frame, ports, site, stream, slot, changed)
    for at, slot, site, role in ports.outputs:
        if at == call and frame.wants(site, role):
            frame.carry(site, role, pick(changed, slot))
    return changed


def _call(frame: Frame, ports: Ports) -> int:
    """The number of the call under way, 0 where calls are not told apart."""
    return 0 if ports.counter is None else frame.counts.get(ports.counter, 1) - 1


def _frame(ports: Ports, module: nn.Module) -> Frame | None:
    runtime = ports.runtime
    frame = runtime.frame
    if frame is not None:
        if frame.graded and not frame.bound and not torch.is_grad_enabled() and frame.opener is not None:
            runtime.unbound = True  # so runs what is checkpointed reentrantly
        return frame
    plan = runtime.current_plan()
    if _has_work(ports, plan) if plan is not None else runtime.unbound and recomputing():
        active = "nothing" if plan is None else repr(plan.composition)
        raise AttachError(
            f"{ports.path or 'the model'} ({type(module).__name__}) runs outside the model's forward, while {active} is active: "
            "call the model itself, model(...), not model.forward(...) and not its parts one by one; with gradient "
            "checkpointing of your own, wrap the checkpointed function with `grafts.bind(fn)`; to run a part alone, set "
            "`grafts.active = None`"
        )
    return None


def _has_work(ports: Ports, plan: Plan) -> bool:
    """Whether the composition changes what this module returns."""
    places = [(site, stream) for _, _, site, stream in (*ports.writes, *ports.entries)]
    writes = any(site in (plan.stream if stream else plan.branch) for site, stream in places)
    return writes or ports.norm in plan.norms or ports.head in plan.heads


def _input(ports: Ports, slot: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """An input by position or name, given either way."""
    found = _passed(ports, slot, args, kwargs)
    return kwargs[found] if isinstance(found, str) else args[found]  # type: ignore[no-any-return]


def _with_input(
    ports: Ports, slot: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with another tensor as one input."""
    found = _passed(ports, slot, args, kwargs)
    if isinstance(found, str):
        return args, {**kwargs, found: value}
    return (*args[:found], value, *args[found + 1 :]), dict(kwargs)


def _passed(ports: Ports, slot: int | str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | str:
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


def pick(output: Any, slot: int | str | None) -> Tensor:
    """One tensor of a module's output."""
    return output if slot is None else output[slot]  # type: ignore[no-any-return]
