"""What one module does for the adapters, written on the module itself."""

from __future__ import annotations

from torch import Tensor, nn

from graftwork.forward.runtime import Runtime
from graftwork.sites import Site, Tap

PORTS = "_graftwork_ports"
ENTRY = "_graftwork_entry"
_OURS = ("graftwork.forward.hooks", "graftwork.forward.frame_hooks")


class Entry:
    """What a module that may be called from outside has to know: the shared state, and its parameters' names."""

    def __init__(self, runtime: Runtime, parameters: tuple[str, ...]) -> None:
        self.runtime = runtime
        self.parameters = parameters


class Ports:
    """What one module does for the adapters.

    Attributes:
        runtime: The state shared by the model's hooks.
        number: Tells counted modules apart within a model.
        path: The module's path in the model.
        parameters: The names of the positional parameters of its forward.
        counted: Whether calls of this module are counted: some work is for a certain call only.
        counter: The number of the module whose calls tell which work is to be done, itself or its block; ``None`` where all
            of it is for every call.
        restarts: The numbers of the modules whose calls are counted anew from each call of this one.
        inputs: ``(call, slot, site, role)`` of inputs to carry to a site; of a call that is ``None``, those of every call.
        outputs: The same for outputs.
        writes: ``(call, slot, site, stream)``: outputs that adapters add to.
        entries: The same for inputs: what adapters add to before the module runs.
        sites: The sites that are written here, by their place in the map.
        scales: The model's own factor at those sites, where there is one.
        norm_modules: The norm behind those sites, where there is one.
        norm_index: Its place in the map.
        norm: The place of this norm in the map, or ``None``.
        head: The path of this head module, or ``None``.
    """

    def __init__(self, runtime: Runtime, number: int, path: str, parameters: tuple[str, ...]) -> None:
        self.runtime = runtime
        self.number = number
        self.path = path
        self.parameters = parameters
        self.counted = False
        self.counter: int | None = None
        self.restarts: set[int] = set()
        self.inputs: list[tuple[int | None, int | str, int, str]] = []
        self.outputs: list[tuple[int | None, int | str | None, int, str]] = []
        self.writes: list[tuple[int | None, int | str | None, int, bool]] = []
        self.entries: list[tuple[int, int | str, int, bool]] = []
        self.sites: dict[int, Site] = {}
        self.scales: dict[int, float | Tensor] = {}
        self.norm_modules: dict[int, nn.Module] = {}
        self.norm_index: dict[int, int] = {}
        self.norm: int | None = None
        self.head: str | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        works = self.inputs or self.outputs or self.writes or self.entries or self.counted or self.restarts
        return not works and self.norm is None and self.head is None


def uninstall(module: nn.Module) -> None:
    """Take every hook of ours, and the ports, off a module."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [k for k, hook in hooks.items() if getattr(hook, "__module__", "") in _OURS]:
            del hooks[key]
            for extra in (
                "_forward_pre_hooks_with_kwargs",
                "_forward_hooks_with_kwargs",
                "_forward_hooks_always_called",
            ):
                getattr(module, extra, {}).pop(key, None)
    module.__dict__.pop(PORTS, None)
    module.__dict__.pop(ENTRY, None)


def add_port(ports: Ports, tap: Tap, site: int, role: str, *, every_call: bool = False) -> None:
    """Have a tensor carried to a site, of the call that the tap says or of every call."""
    call = None if every_call else tap.call
    if tap.end == "input":
        assert tap.slot is not None
        ports.inputs.append((call, tap.slot, site, role))
    else:
        ports.outputs.append((call, tap.slot, site, role))
