"""A head alone, on the frozen base."""

from __future__ import annotations

from graftwork.api import Adapters
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, UnitFiles, UnitKind
from graftwork.experiments.kinds.unit import Unit
from graftwork.tasks import kinds
from graftwork.training.joint_trainer import TaskRoute


class HeadKind(UnitKind):
    """The head of a task."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One for every target whose head has weights."""
        return super().units(target, seed, plans) if kinds[plans.tasks[target].kind].has_weights else ()

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A new head."""
        context.add_head(adapters, unit.task, unit.task)
        adapters.train_only(unit.task)
        return Stage(unit.task, "head", None, unit.task)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The head."""
        return TaskRoute(None, str(adapters.load(files.folder(unit) / "head")))


HEAD = HeadKind("head", "head only", budget=("head",), control=True)
