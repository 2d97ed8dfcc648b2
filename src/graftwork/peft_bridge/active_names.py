"""Which of peft's layers compute: a state of the layer in peft, here read from the forward pass under way.

A layer of peft has the names of its active adapters in an attribute, for all threads. Two objects replace it, a list of names and
a truth value that read the frame of their thread: so `using` in another thread, a recomputation in the backward pass and a copy
of the model each see their own, and nothing has to be set or reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from graftwork.errors import AttachError, CompositionError
from graftwork.forward.runtime import Runtime


class Active:
    """The active adapters of one adapter's layers, as peft reads them: its own key, or nothing."""

    def __init__(self, runtime: Runtime, name: str, key: str, strict: bool = True) -> None:
        self.runtime = runtime
        self.name = name
        self.key = key  # the adapter's name in peft
        # Whether to refuse use outside the model's forward; peft's wrappers read this whenever an attribute is read.
        self.strict = strict
        self.beneath: list[Active] = []  # those of the layers that this one wraps

    def on(self) -> bool:
        """Whether the forward pass under way in this thread computes the adapter.

        Raises:
            AttachError: If a part of the model runs outside the model's forward, while the adapter is active.
        """
        frame = self.runtime.frame
        if frame is not None:
            active = self.name in frame.plan.injected
            if active and len(frame.plan.injected) > 1 and not torch.compiler.is_compiling():
                frame.computed[id(self)] = self
            return active
        if not self.strict:
            return False
        plan = self.runtime.current_plan()
        if plan is not None and self.name in plan.injected:
            raise AttachError(
                f"a part of the model with {self.name!r} in it runs outside the model's forward, while "
                f"{plan.composition!r} is active: with gradient checkpointing of your own, wrap the checkpointed function "
                "with `adapters.bind(fn)`; to run a part alone, set `adapters.active = None`"
            )
        return False

    def require_beneath(self, computed: Mapping[int, Active], composition: object) -> None:
        """Refuse a layer that was computed without those which it wraps.

        Raises:
            CompositionError: If its method uses the base's weight directly, without an active adapter that it wraps.
        """
        for other in self.beneath:
            if other.name in self.runtime.frame.plan.injected and id(other) not in computed:  # type: ignore[union-attr]
                raise CompositionError(
                    f"{composition!r}: the layers of {self.name!r} wrap those of {other.name!r} and compute without them; add "
                    f"{self.name!r} first (in a union, name that part first), or let the two wrap other modules"
                )

    def __len__(self) -> int:
        return 1 if self.on() else 0

    def __iter__(self) -> Iterator[str]:
        return iter([self.key] if self.on() else [])

    def __getitem__(self, index: int) -> str:
        return [self.key][: len(self)][index]

    def __contains__(self, key: object) -> bool:
        return key == self.key and self.on()


class Disabled:
    """Whether the layers of an adapter compute their base alone, as peft reads it."""

    def __init__(self, active: Active) -> None:
        self.active = active

    def __bool__(self) -> bool:
        return not self.active.on()
