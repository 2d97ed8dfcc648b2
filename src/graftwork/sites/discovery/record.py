"""The record of one forward pass: every tensor made in it, and every call of a module.

Values are in single-assignment form: an in-place write makes a new value. Nothing is interpreted here.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from graftwork.sites.discovery.ops import FIRST_ARGUMENT_ONLY, operation_name
from graftwork.sites.discovery.values import Call, Passing, Value, slots_of, tensors_in


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


class Record:
    """Values and calls of one forward pass, filled while it runs under `modes` with `watch`ed modules.

    Attributes:
        values: Every tensor at every time, in order.
        calls: Every module call, in order.
        kept: The numbers of the values named in the argument `keep`.
    """

    def __init__(self, keep: frozenset[int] = frozenset()) -> None:
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.kept: dict[int, torch.Tensor] = {}
        self._keep = keep
        self._open: list[int] = []
        self._tick = 0
        self._known: dict[int, tuple[int, int]] = {}
        self._alive: list[torch.Tensor] = []  # ids stay unique only while their tensors live
        self._last_write: dict[int, int] = {}
        self._counts: collections.Counter[str] = collections.Counter()
        self._inside_operation = 0

    # -- filling

    def watch(self, model: torch.nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        """Name the model's parameters and buffers and follow every module call; returns the hooks to remove."""
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            self._bind(tensor, self._new("param", (), tensor, name=name))
        handles = []
        for path, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):  # takes no hooks; its outputs are linked to its inputs
                continue
            handles.append(module.register_forward_pre_hook(functools.partial(self._enter, path), with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        return handles

    def name_inputs(self, inputs: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Mark tensors as the inputs of the model."""
        for name, tensor in inputs:
            self._bind(tensor, self._new("input", (), tensor, name=name))

    def modes(self) -> tuple[TorchDispatchMode, TorchFunctionMode]:
        """The two modes to run under, outer one first: it records the operators that the inner one cannot see."""
        return _OutsideRecorder(self), _FunctionRecorder(self)

    def _new(self, op: str, inputs: tuple[int, ...], tensor: torch.Tensor, **facts: Any) -> int:
        index = len(self.values)
        self.values.append(Value(index, op, inputs, tuple(tensor.shape), tensor.dtype, tuple(self._open), **facts))
        if index in self._keep:
            with self.unseen():
                self.kept[index] = tensor.detach().clone()
        return index

    def _bind(self, tensor: torch.Tensor, value: int) -> None:
        if id(tensor) not in self._known:
            self._alive.append(tensor)
        self._known[id(tensor)] = (value, _version(tensor))

    def stand_in(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Record a tensor as the same value as another one, which it replaces; returns it."""
        with torch._C.DisableTorchFunction():
            self._bind(new, self.value_of(old))
        return new

    def value_of(self, tensor: torch.Tensor) -> int:
        """The value that a tensor holds now; one never seen before is a constant."""
        known = self._known.get(id(tensor))
        if known is None:
            value = self._new("param" if isinstance(tensor, torch.nn.Parameter) else "const", (), tensor)
        else:
            value, version = known
            if _version(tensor) == version:
                return value
            written = self._last_write.get(tensor.untyped_storage()._cdata)  # written through another view
            if written is not None and written != value:
                value = self._new("alias", (value, written), tensor)
        self._bind(tensor, value)
        return value

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Leave operations out of the record."""
        self._inside_operation += 1
        try:
            with torch._C.DisableTorchFunction():
                yield
        finally:
            self._inside_operation -= 1

    def operation(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        written: list[torch.Tensor] | None = None,
    ) -> Any:
        """Run one operation and record what it made or wrote.

        ``written`` are the arguments that it is known to write; by default those whose version changed.
        """
        taken = [*tensors_in(args), *tensors_in(kwargs)]
        inputs = [self.value_of(tensor) for tensor in taken]
        versions = [_version(tensor) for tensor in taken]
        self._inside_operation += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self._inside_operation -= 1
        op = operation_name(func)
        if op in FIRST_ARGUMENT_ONLY:
            taken, inputs = taken[:1], inputs[:1]
        numbers = [a for a in [*args, *kwargs.values()] if isinstance(a, int | float) and not isinstance(a, bool)]
        alpha = kwargs.get("alpha", 1.0)
        facts = {
            "constants": tuple(float(number) for number in numbers),
            "alpha": float(alpha) if isinstance(alpha, int | float) else 1.0,
        }
        done: set[int] = set()
        for position, tensor in enumerate(taken):
            changed = _version(tensor) != versions[position]
            if written is not None:
                changed = any(tensor is w for w in written)
            if changed and id(tensor) not in done:
                done.add(id(tensor))
                order = inputs
                if op not in ("add", "sub", "mul", "truediv"):  # what is written first
                    order = [inputs[position], *inputs[:position], *inputs[position + 1 :]]
                value = self._new(op, tuple(order), tensor, **facts)
                self._bind(tensor, value)
                self._last_write[tensor.untyped_storage()._cdata] = value
        unchanged = {id(tensor) for tensor in taken}
        for tensor in tensors_in(result):
            if id(tensor) not in unchanged and not (id(tensor) in self._known and op in ("data", "grad")):
                self._bind(tensor, self._new(op, tuple(inputs), tensor, **facts))
        return result

    def _enter(self, path: str, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with torch._C.DisableTorchFunction():
            parent = self._open[-1] if self._open else None
            index, depth, nth = len(self.calls), len(self._open), self._counts[path]
            call = Call(index, path, nth, module, parent, depth, self._tick, len(self.values))
            self._counts[path] += 1
            self._tick += 1
            self.calls.append(call)
            for tensor, slot, reachable in [*slots_of(args, False), *slots_of(kwargs, False)]:
                value = self.value_of(tensor)
                call.inputs.append(Passing(value, slot, reachable))
                self.values[value].taken_by.append(index)
            self._open.append(index)

    def _leave(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        with torch._C.DisableTorchFunction():
            call = self.calls[self._open.pop()]
            while call.module is not module:  # a call that raised, and whose caller went on, never left
                call = self.calls[self._open.pop()]
            for tensor, slot, reachable in slots_of(output, True):
                if id(tensor) not in self._known:
                    self._bind(tensor, self._new("opaque", tuple(passing.value for passing in call.inputs), tensor))
                value = self.value_of(tensor)
                call.outputs.append(Passing(value, slot, reachable))
                self.values[value].returned_by.append(call.index)
            call.left = self._tick
            self._tick += 1

    # -- asking

    def around(self, call: int) -> Iterator[int]:
        """The calls that a call happened in, innermost first."""
        while (parent := self.calls[call].parent) is not None:
            yield parent
            call = parent

    def is_below(self, call: int, above: int, *, strictly: bool = True) -> bool:
        """Whether a call happened inside another one; if not ``strictly``, or is it."""
        return above in self.around(call) or (not strictly and call == above)


class _FunctionRecorder(TorchFunctionMode):  # type: ignore[no-untyped-call]
    """Records every call of torch's Python API."""

    def __init__(self, record: Record) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.record.operation(func, args, kwargs or {})


class _OutsideRecorder(TorchDispatchMode):
    """Records the operators that no recorded Python call made: those of TorchScript and of C++ extensions."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.record._inside_operation:
            return func(*args, **kwargs)
        # by the schema: versions change above this level
        return self.record.operation(func, args, kwargs, written_by(func, args, kwargs))


def written_by(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The arguments that an operator writes, by its schema."""
    written: list[torch.Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written += tensors_in(args[position] if position < len(args) else kwargs.get(argument.name))
    return written
