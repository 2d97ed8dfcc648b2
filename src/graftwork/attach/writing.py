"""What happens at a site: the reads are gathered, the plan's node runs, and its addition is written."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch import Tensor

from graftwork.attach.choice import Chosen, run_norm
from graftwork.attach.runtime import Frame
from graftwork.compose.reads import BranchReads, Reads, StreamReads, Surroundings
from graftwork.errors import AttachError

if TYPE_CHECKING:
    from graftwork.attach.ports import Ports


def write(frame: Frame, ports: Ports, index: int, stream: bool, slot: int | str | None, output: Any) -> Any:
    """The output of a module with the addition of one site in it, the same object where nothing is added."""
    node = (frame.plan.stream if stream else frame.plan.branch).get(index)
    if node is None:
        return output
    site = ports.sites[index]
    value = output if slot is None else output[slot]
    reads = _reads(frame, ports, index, stream, value)
    delta = node(reads)
    if delta is None:
        return output
    if stream and site.norm is None and index in ports.scales:
        delta = delta / ports.scales[index]
    if delta.shape != value.shape:
        delta = delta.reshape(value.shape)
    return _replaced(output, slot, value + delta.to(value.dtype))


def _reads(frame: Frame, ports: Ports, index: int, stream: bool, value: Tensor) -> Reads:
    site = ports.sites[index]
    call = frame.call
    around = Surroundings(call.rows, beams=call.beams, mask=call.mask_at(site.stack), record=frame.record)
    taps = {}
    for role in frame.plan.taps.get(index, ()):
        if (index, role) not in frame.taps:
            raise AttachError(
                f"{site.key} needs its {role!r}, which did not come by {getattr(site, role)} in this call; the model takes "
                "another way than when its sites were found"
            )
        taps[role] = frame.taps[index, role]
    if stream or index not in frame.plan.stream:
        _release(frame, index)
    if site.holds_stream(stream):
        return StreamReads(value, taps, around)
    norm = None
    if index in ports.norm_modules:
        norm = frame.norm(ports.norm_index[index]) if index in ports.norm_index else None
        norm = norm or Chosen(ports.norm_modules[index], run_norm)
    return BranchReads(value, taps, around, scale=ports.scales.get(index), norm=norm, summed=site.summed)


def _release(frame: Frame, index: int) -> None:
    """Let go of tensors that no later call asks for: activations of a whole model would pile up."""
    for role in frame.plan.taps.get(index, ()):
        if frame.opener is not None:
            frame.taps.pop((index, role), None)


def _replaced(output: Any, slot: int | str | None, value: Tensor) -> Any:
    """The module's output with one tensor in it changed, its own type kept."""
    if slot is None:
        return value
    if isinstance(output, tuple):
        parts = list(output)
        parts[slot] = value  # type: ignore[index]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if isinstance(output, list):
        return [value if n == slot else part for n, part in enumerate(output)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return dataclasses.replace(output, **{str(slot): value})
    return {**output, slot: value}
