"""What one module does for the adapters, written on the module itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from torch import Tensor, nn

from graftwork.forward.runtime import Runtime
from graftwork.sites import Site, Tap

PORTS = "_graftwork_ports"
ENTRY = "_graftwork_entry"
TRUNK = "_graftwork_trunk"


@dataclasses.dataclass(eq=False)
class Entry:
    """What a module that may be called from outside has to know: the shared state, and its parameters' names."""

    runtime: Runtime
    parameters: tuple[str, ...]


@dataclasses.dataclass(eq=False)
class TrunkBlock:
    """What a block below the first adapter has to know, see `graftwork.forward.shared_trunk`.

    Attributes:
        runtime: The shared state.
        path: The path of the block.
        refuses: Whether it was found to return what cannot be repeated for rows with the same inputs.
    """

    runtime: Runtime
    path: str
    refuses: bool = False


@dataclasses.dataclass(eq=False)
class Ports:
    """What one module does for the adapters; sites and norms are numbered by their place in the map of sites."""

    runtime: Runtime
    number: int  # of the module, to count its calls by
    path: str
    parameters: tuple[str, ...]  # the names of the positional parameters of the module's forward
    block: int = -1  # the number of the block that the module is in, in order of execution; -1 outside of all
    counted: bool = False  # whether calls of this module are counted: some work is for a certain call only
    # The number of the module whose calls tell which work is to be done, itself or its block; None where all is for every call.
    counter: int | None = None
    # The numbers of the modules whose calls are counted from 0 again at each call of this one.
    restarts: set[int] = dataclasses.field(default_factory=set)
    # (call, slot, site, role): inputs and outputs to carry to a site, of one call, or of every call (None).
    inputs: list[tuple[int | None, int | str, int, str]] = dataclasses.field(default_factory=list)
    outputs: list[tuple[int | None, int | str | None, int, str]] = dataclasses.field(default_factory=list)
    # (call, slot, site, stream): outputs that adapters add to, and inputs, before the module runs.
    writes: list[tuple[int | None, int | str | None, int, bool]] = dataclasses.field(default_factory=list)
    entries: list[tuple[int, int | str, int, bool]] = dataclasses.field(default_factory=list)
    # The sites that are written here; where they have one, the model's own factor, the norm after the site, and its number.
    sites: dict[int, Site] = dataclasses.field(default_factory=dict)
    scales: dict[int, float | Tensor] = dataclasses.field(default_factory=dict)
    norm_modules: dict[int, nn.Module] = dataclasses.field(default_factory=dict)
    norm_index: dict[int, int] = dataclasses.field(default_factory=dict)
    norm: int | None = None  # the number of this norm
    head: str | None = None  # the path of this head module

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        works = self.inputs or self.outputs or self.writes or self.entries or self.counted or self.restarts
        return not works and self.norm is None and self.head is None


def uninstall(module: nn.Module) -> None:
    """Take our hooks, and what they need to know, off a module."""
    remove_hooks(module, [f"graftwork.forward.{name}" for name in ("hooks", "frame_hooks", "shared_trunk")])
    for name in (PORTS, ENTRY, TRUNK):
        module.__dict__.pop(name, None)


def remove_hooks(module: nn.Module, files: Collection[str]) -> None:
    """Take the hooks that are functions of some files off a module."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [k for k, hook in hooks.items() if getattr(hook, "__module__", "") in files]:
            del hooks[key]
            for extra in ("pre_hooks_with_kwargs", "hooks_with_kwargs", "hooks_always_called"):
                getattr(module, f"_forward_{extra}", {}).pop(key, None)


def add_port(ports: Ports, tap: Tap, site: int, role: str, *, every_call: bool = False) -> None:
    """Have a tensor carried to a site, of the call that the tap names or of every call."""
    call = None if every_call else tap.call
    if tap.end == "input":
        assert tap.slot is not None
        ports.inputs.append((call, tap.slot, site, role))
    else:
        ports.outputs.append((call, tap.slot, site, role))
