"""A unit: one training of a recipe, and the units whose results it uses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from graftwork.compose import Composition, Stack


@dataclasses.dataclass(frozen=True)
class Unit:
    """One training.

    Attributes:
        kind: What is trained, one of `graftwork.experiments.kinds.UNIT_KINDS`.
        task: The task whose rows it is trained on; or the language, or the knowledge.
        seed: Of everything random in it.
        members: The units whose results it starts from, in order: adapters that it fuses or averages, what was trained before.
        stacked_on: The units whose adapters are stacked below what it trains, the lowest first.
        method: The name of the table ``[methods.NAME]`` that configures its adapter; empty for ``[adapter]``.
        tasks: The tasks of a unit that is trained on all of them, in order.
    """

    kind: str
    task: str
    seed: int
    members: tuple[Unit, ...] = ()
    stacked_on: tuple[Unit, ...] = ()
    method: str = ""
    tasks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its kind, with the method where it has one."""
        return f"{self.kind}-{self.method}" if self.method else self.kind

    @property
    def language(self) -> Unit | None:
        """The unit of the language adapter that it is stacked on, if there is one."""
        return next((unit for unit in self.stacked_on if unit.kind == "language"), None)

    @property
    def id(self) -> str:
        """Its name, also that of its folder: ``adapter/rte/0``."""
        return f"{self.label}/{self.task}/{self.seed}"

    def step(self, task: str) -> Unit:
        """The unit of one step of a sequence: an adapter where the sequence adds trained adapters, else the whole base."""
        return Unit("adapter" if self.members else "full", task, self.seed)

    def folder(self, run: Path) -> Path:
        """The folder of its files in a run."""
        return run / "units" / self.label / self.task / str(self.seed)

    def stack(self, top: Composition, language: str | None = None) -> Composition:
        """A composition on top of the adapters that this unit is stacked on.

        Args:
            top: What is on top, ``None`` for nothing.
            language: The language whose adapter replaces that of the unit's own language.
        """
        below = [language if language and one.kind == "language" else one.task for one in self.stacked_on]
        if top is None and len(below) == 1:
            return below[0]
        return Stack(*below, *([] if top is None else [top])) if below else top
