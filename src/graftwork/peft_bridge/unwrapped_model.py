"""The model without anything of graftwork, for as long as another library changes it.

Every module's tables are replaced by copies without graftwork's children and without layers that wrap a module of the base. What
the other library does is the difference between the copy and what it was at first. The originals are put back at the end, also
after an error: nothing is left half done.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from graftwork.errors import ConfigError
from graftwork.sites.discovery.record import written_by
from graftwork.weights.names import RESERVED

_TABLES = ("_modules", "_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks")


@dataclasses.dataclass
class Layer:
    """One layer of an adapter: a module that wraps one of the base."""

    path: str  # of the base's module in the model
    parent: nn.Module
    child: str  # its name in the parent
    wrapper: nn.Module
    slot: str  # its name in the wrapper

    @property
    def inner(self) -> nn.Module:
        """The module that the wrapper wraps."""
        found = self.wrapper._modules[self.slot]
        assert found is not None
        return found

    @inner.setter
    def inner(self, module: nn.Module) -> None:
        self.wrapper._modules[self.slot] = module


class Plain:
    """The model without anything of graftwork; `layers` returns what was put into it."""

    def __init__(self, model: nn.Module, inside: Mapping[int, nn.Module]) -> None:
        self.modules = dict(_walk(model, "", inside, set()))
        self._tables = {id(m): {t: m.__dict__[t] for t in _TABLES} for m in self.modules.values()}
        weights = (p for m in self.modules.values() for p in m._parameters.values() if p is not None)
        self._weights = {id(p): (p, p.requires_grad, p.detach(), _version(p)) for p in weights}
        for module in self.modules.values():
            for table in _TABLES:
                module.__dict__[table] = copy.copy(module.__dict__[table])
            children = module.__dict__["_modules"]
            children.pop(RESERVED, None)
            for name, child in children.items():
                children[name] = _inmost(child, inside)
        self._seen = {id(m): {t: dict(m.__dict__[t]) for t in _TABLES} for m in self.modules.values()}

    def layers(self) -> list[Layer]:
        """The layers that wrap modules of the base now.

        Raises:
            ConfigError: If anything else of the base was changed: that could not be undone.
        """
        changed: list[tuple[str, nn.Module, str, nn.Module]] = []
        for path, module in self.modules.items():
            for table in _TABLES:
                before, now = self._seen[id(module)][table], module.__dict__[table]
                if table == "_modules" and before.keys() == now.keys():
                    changed += [
                        (f"{path}.{name}" if path else name, module, name, child)
                        for name, child in before.items()
                        if now[name] is not child
                    ]
                elif before.keys() != now.keys() or any(before[k] is not now[k] for k in before):
                    raise ConfigError(
                        f"the configuration changes the model itself (the {type(module).__name__} at {path!r}), and does not "
                        "only wrap the base's modules"
                    )
        for path, module in self.modules.items():
            for name, p in module._parameters.items():
                if p is not None:
                    _, _, value, version = self._weights[id(p)]
                    if p.data_ptr() != value.data_ptr() or _version(p) != version or p.dtype != value.dtype:
                        raise _changes_the_base(f"{path}.{name}")
        found = []
        for path, parent, name, plain in changed:
            wrapper = parent._modules[name]
            slots = [slot for slot, child in wrapper._modules.items() if child is plain] if wrapper is not None else []
            if wrapper is None or len(slots) != 1:
                raise ConfigError(
                    f"the configuration replaces the module {path!r} and does not wrap it; use peft.get_peft_model"
                )
            found.append(Layer(path, parent, name, wrapper, slots[0]))
        return found

    def restore(self) -> None:
        """Put everything back as it was."""
        for module in self.modules.values():
            for table, original in self._tables[id(module)].items():
                module.__dict__[table] = original
        for p, flag, value, _ in self._weights.values():
            if p.data_ptr() != value.data_ptr():
                p.data = value
            p.requires_grad_(flag)

    def names(self) -> dict[int, str]:
        """The base's parameters and buffers by the memory that they are in."""
        found = {}
        for path, module in self.modules.items():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and (memory := _memory(tensor)):
                    found[memory] = f"{path}.{name}" if path else name
        return found


class _Untouched(TorchDispatchMode):
    """Refuses an operation before it writes into some tensors, also through ``.data``, which does not change their version."""

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in written_by(func, args, kwargs):
            if _memory(tensor) in self.names:
                raise _changes_the_base(self.names[_memory(tensor)])
        return func(*args, **kwargs)


def _changes_the_base(path: str) -> ConfigError:
    return ConfigError(
        f"the configuration changes the base's own weights ({path}), which all other adapters are trained for; choose initial "
        "values that leave the base as it is (init_lora_weights=True, 'gaussian' or 'orthogonal'), or save the changed base first, "
        "by peft.get_peft_model(model, config).unload(), and attach to that"
    )


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's storage, 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # of a subclass without storage, or a meta tensor
        return 0


@contextlib.contextmanager
def plain_model(model: nn.Module, inside: Mapping[int, nn.Module]) -> Iterator[Plain]:
    """Inside, the model has none of graftwork's modules and no layers that wrap the base's; restored at the end.

    Args:
        model: The model.
        inside: For each wrapper, by identity, the module that it wraps.
    """
    plain = Plain(model, inside)
    attributes = dict(model.__dict__)
    model.__dict__.pop("peft_config", None)  # peft's own list, which it would add to
    try:
        with _Untouched(plain.names()):
            yield plain
    finally:
        plain.restore()
        for key in [k for k in model.__dict__ if k not in attributes]:
            del model.__dict__[key]
        if "peft_config" in attributes:
            model.__dict__["peft_config"] = attributes["peft_config"]


def _walk(
    module: nn.Module, path: str, inside: Mapping[int, nn.Module], seen: set[int]
) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield path, module
    for name, child in module._modules.items():
        if child is not None and name != RESERVED:
            yield from _walk(_inmost(child, inside), f"{path}.{name}" if path else name, inside, seen)


def _inmost(module: nn.Module | None, inside: Mapping[int, nn.Module]) -> Any:
    while id(module) in inside:
        module = inside[id(module)]
    return module


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
