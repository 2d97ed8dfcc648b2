"""What happens at a site: the reads are gathered, the plan's node runs, and its addition is written."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor, nn

from graftwork.compose.reads import BranchReads, Reads, SiteContext, StreamReads
from graftwork.compose.rows import merge, take
from graftwork.errors import AttachError
from graftwork.forward.frame import Frame
from graftwork.forward.ports import Ports
from graftwork.forward.stand_ins import Override
from graftwork.methods.layers.contract import HIDDEN
from graftwork.methods.layers.norms import run_norm
from graftwork.sites import Site


def write(
    frame: Frame, ports: Ports, module: nn.Module, index: int, stream: bool, slot: int | str | None, output: Any
) -> Any:
    """The output of a module with the addition of one site; the same object where nothing is added."""
    if slot is None:
        return written(frame, ports, module, index, stream, output)
    changed = written(frame, ports, module, index, stream, output[slot])
    return output if changed is output[slot] else _replaced(output, slot, changed)


def written(frame: Frame, ports: Ports, module: nn.Module, index: int, stream: bool, value: Tensor) -> Tensor:
    """The tensor at one site with the addition; the same object where nothing is added."""
    node = (frame.plan.stream if stream else frame.plan.branch)[index]
    if frame.part is None or frame.call.rows is None:
        delta = node(_reads(frame, ports, module, index, stream, value))
    else:  # the module runs on some of the rows: the node is given zeros for the others
        rows, batch_size = frame.part, frame.call.rows
        others = tuple(row for row in range(batch_size) if row not in rows)
        size = value.shape[0] // len(rows) * batch_size
        whole = merge([(rows, value), (others, None)], value, batch_size, rows_of=value.new_empty((size, 0)))
        assert whole is not None
        delta = node(_reads(frame, ports, module, index, stream, whole))
        delta = None if delta is None else take(delta, rows, batch_size)
    if delta is None:
        return value
    if stream and ports.sites[index].norm is None and index in ports.scales:
        delta = delta / ports.scales[index]
    if delta.shape != value.shape:
        delta = delta.reshape(value.shape)
    return value + (delta if delta.dtype == value.dtype else delta.to(value.dtype))


def _reads(frame: Frame, ports: Ports, module: nn.Module, index: int, stream: bool, value: Tensor) -> Reads:
    site = ports.sites[index]
    call = frame.call
    around = SiteContext(
        call.rows,
        beams=call.beams,
        mask=call.mask_at(site.stack),
        record=frame.record,
        losses=frame.add_loss,
        memo=frame.memo,
        module=module,
    )
    taps = {}
    for role in frame.plan.taps.get(index, ()):
        if (index, role) not in frame.taps:
            where = "the layer of that number" if role.startswith(HIDDEN) else getattr(site, role)
            raise AttachError(
                f"{site.key} needs its {role!r}, which was not seen at {where} in this call; the model computes in another order "
                "than when its sites were found"
            )
        taps[role] = frame.taps[index, role]
        if not role.startswith(HIDDEN):
            _refuse_pieces(site, role, taps[role], value)
    if frame.opener is not None and (stream or index not in frame.plan.stream):
        for role in taps:  # no later call reads these: activations of a whole model would pile up
            frame.taps.pop((index, role))
    if site.holds_stream(stream):
        return StreamReads(value, taps, around)
    norm = None
    if index in ports.norm_modules:
        norm = frame.norm(ports.norm_index[index]) if index in ports.norm_index else None
        norm = norm or Override(ports.norm_modules[index], run_norm)
    return BranchReads(value, taps, around, scale=ports.scales.get(index), norm=norm, summed=site.summed)


def _refuse_pieces(site: Site, role: str, tap: Tensor, value: Tensor) -> None:
    """Refuse to add to some of the positions what was made from all of them, or from others."""
    if tap.shape[:-1] == value.shape[:-1]:
        return
    if "channels" not in site.extra and math.prod(tap.shape[:-1]) != math.prod(value.shape[:-1]):
        raise AttachError(
            f"{site.key} adds to {tuple(value.shape)}, and its {role!r} is {tuple(tap.shape)}: the model runs "
            f"{site.output.module} on a part of the positions; where it is set to run in pieces, set that to none "
            "(chunk_size_feed_forward = 0 in the configuration and on its modules)"
        )


def _replaced(output: Any, slot: int | str, value: Tensor) -> Any:
    """The module's output with one tensor replaced, of the same type."""
    if isinstance(output, tuple):
        parts = list(output)
        parts[slot] = value  # type: ignore[index]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if isinstance(output, list):
        return [value if n == slot else part for n, part in enumerate(output)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return dataclasses.replace(output, **{str(slot): value})
    return {**output, slot: value}
