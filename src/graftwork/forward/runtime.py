"""The state that all hooks of one model share: what is active, and the forward pass under way in each thread."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from graftwork.compose import Composition
from graftwork.forward.frame import Frame
from graftwork.forward.heads_in_use import OWN
from graftwork.forward.plan import Plan
from graftwork.forward.shown_labels import LabelledModel
from graftwork.forward.using import Innermost


class AttachedModel(LabelledModel, Protocol):
    """What a forward pass needs of the handle of an attached model; see `graftwork.attach.handle`."""

    model: nn.Module
    runtime: Runtime

    def before_forward(self, module: nn.Module) -> None: ...

    def checkpointed_modules(self) -> list[nn.Module]: ...

    def extra_losses(self) -> Tensor | None: ...

    def head_of(self, name: str) -> dict[str, nn.Module]: ...

    def replan(self) -> None: ...


class Runtime:
    """The state that all hooks of one model share."""

    def __init__(self) -> None:
        # Per thread: the frame under way, where weights are recorded, the last extra losses. A plain `threading.local`: compiled
        # code would see the class attributes of a subclass, not those of the thread.
        self.local = threading.local()
        self.active: Composition = None  # the composition that is active outside `using`
        self.head: str | tuple[str, ...] | None = OWN  # the head in use with it: a name, several, None, or OWN
        self.plan: Plan | None = None  # the plan of what is active
        self.plain = Plan(None)  # of a frame in which no adapter is active
        self.stale = False  # whether the plan must be made again before it is used (after a copy)
        self.handle: AttachedModel | None = None  # None in a copied part of a model
        self.unbound = False  # whether a block ran under the user's own checkpointing without `bind`

    @property
    def frame(self) -> Frame | None:
        """The forward pass under way in this thread."""
        return getattr(self.local, "frame", None)

    # The plan of the innermost `using` that holds here; empty where there is none.
    using = property(Innermost().__getitem__)

    @property
    def record(self) -> dict[Any, Any] | None:
        """Where fusions of this thread write their weights, ``None`` where they are not recorded."""
        return getattr(self.local, "record", None)

    @property
    def losses(self) -> tuple[Tensor, ...]:
        """The extra losses of this thread's last forward pass."""
        return getattr(self.local, "losses", ())

    def current_plan(self) -> Plan | None:
        """The plan of the innermost `using`, else the default one."""
        if self.stale and self.handle is not None:
            self._renew()
        using: tuple[Plan | None, ...] = self.using
        return using[0] if using else self.plan

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch gives it no type
    def _renew(self) -> None:
        """Make the plan of a copied model; while compiling, before the compiled code runs."""
        assert self.handle is not None
        self.handle.replan()

    def __deepcopy__(self, memo: dict[int, Any]) -> Runtime:
        copy = Runtime()
        memo[id(self)] = copy
        copy.active, copy.head, copy.stale = self.active, self.head, True
        return copy

    def __getstate__(self) -> dict[str, Any]:
        return {"active": self.active, "head": self.head, "hooks": RemovableHandle.next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.active, self.head, self.stale = state["active"], state.get("head", OWN), True
        # Hooks are numbered by process: later ones must not be given the numbers of those that came with the model.
        RemovableHandle.next_id = max(RemovableHandle.next_id, state.get("hooks", 0))
