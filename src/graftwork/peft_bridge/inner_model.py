"""The model inside, below heads: where virtual tokens enter, and where their positions are cut from what it returns.

So whatever uses its output (a head, a loss, a pooling by the padding, `generate`) sees the positions of the text alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from graftwork.forward.call_inputs import Call, parameter_names
from graftwork.forward.frame import Frame
from graftwork.forward.ports import remove_hooks
from graftwork.forward.runtime import Runtime

INLET = "_graftwork_inlet"


@dataclasses.dataclass(eq=False)
class Inlet:
    """What the model inside has to know: the shared state, its parameters' names, and how many adapters enter here."""

    runtime: Runtime
    names: tuple[str, ...]
    users: int = 0


class Longer(Call):
    """The call as the layers see it, with virtual tokens in front."""

    def __init__(self, outer: Call, mask: Tensor | None, tokens: int, positions: int) -> None:
        self.__dict__.update(outer.__dict__)
        self.outer = outer  # the call without virtual tokens
        self.mask = mask
        self.tokens = tokens  # the number of virtual tokens
        self.positions = positions  # the number of positions with them


def open_inlet(inner: nn.Module, runtime: Runtime) -> None:
    """Make a model take virtual tokens."""
    inlet = inner.__dict__.get(INLET)
    if inlet is None:
        inlet = inner.__dict__[INLET] = Inlet(runtime, parameter_names(inner))
        inner.register_forward_pre_hook(_enter, with_kwargs=True)
        inner.register_forward_hook(_leave, with_kwargs=True, prepend=True)  # before the frame is closed
        pooler = inner._modules.get("pooler")
        if pooler is not None:
            pooler.__dict__[INLET] = inlet
            pooler.register_forward_pre_hook(_pool, with_kwargs=True)
    inlet.users += 1


def close_inlet(inner: nn.Module) -> None:
    """Undo `open_inlet` where no other adapter needs it."""
    inlet = inner.__dict__.get(INLET)
    if inlet is None:
        return
    inlet.users -= 1
    if inlet.users:
        return
    for module in (inner, inner._modules.get("pooler")):
        if module is not None:
            module.__dict__.pop(INLET, None)
            remove_hooks(module, (__name__,))


def _enter(
    inner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook of the model inside: its inputs with what goes in front."""
    inlet: Inlet = inner.__dict__[INLET]
    frame = inlet.runtime.frame
    if frame is None or frame.plan.prompt is None or frame.plan.prompt.inner is not inner:
        return None
    named = {**dict(zip(inlet.names, args, strict=False)), **kwargs}
    return (), frame.plan.prompt.enter(frame, inlet.names, named)


def _leave(inner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Forward hook of the model inside: what it returns, without the positions in front."""
    frame: Frame | None = inner.__dict__[INLET].runtime.frame
    if frame is None or not isinstance(frame.call, Longer):
        return None
    call, frame.call = frame.call, frame.call.outer
    if isinstance(output, Tensor):
        return _cut(output, call)
    if isinstance(output, tuple):
        return tuple(_cut(part, call) for part in output)
    for key, part in output.items():
        output[key] = _cut(part, call)
    return output


def _pool(
    pooler: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Forward pre-hook of the pooler of the model inside, which is to take the text's own first position."""
    frame: Frame | None = pooler.__dict__[INLET].runtime.frame
    if frame is None or not isinstance(frame.call, Longer):
        return None
    call = frame.call
    return tuple(_cut(a, call) for a in args), {key: _cut(value, call) for key, value in kwargs.items()}


def _cut(part: Any, call: Longer) -> Any:
    """States ``(batch, positions, width)``, one or several, without the positions in front; anything else as it is."""
    if isinstance(part, Tensor):
        return part[:, call.tokens :] if part.dim() == 3 and part.shape[1] == call.positions else part
    if isinstance(part, tuple) and part and all(isinstance(one, Tensor) for one in part):
        return tuple(_cut(one, call) for one in part)
    return part
