"""The base and the head of a task, trained on top of the adapters of its knowledge, which are frozen or trained too."""

from __future__ import annotations

from graftwork.api import Adapters
from graftwork.experiments.kinds.contract import SetUp, Stage, UnitFiles, UnitKind
from graftwork.experiments.kinds.unit import Unit
from graftwork.training.joint_trainer import TaskRoute


class SecondStageKind(UnitKind):
    """The whole base, with the adapters that the unit is stacked on."""

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A head, the base, and the adapters below where the recipe says so."""
        context.add_head(adapters, unit.task, unit.task)
        below = tuple(one.task for one in unit.stacked_on)
        retrained = below if context.trains_adapters_below(unit.task) else ()
        adapters.train_only([*retrained, unit.task], active=unit.stack(None), head=unit.task, base="trained")
        return Stage(unit.task, "head", None, unit.task, base=True, retrained=retrained)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The trained base, its head, and the adapters that were trained with it."""
        folder = files.folder(unit)
        adapters.load_base(folder / "base")
        for one in unit.stacked_on:
            if (folder / "adapters" / one.task).is_dir():
                adapters.remove(one.task)
                adapters.load(folder / "adapters" / one.task, one.task, head=False)
        adapters.load(folder / "head", unit.task)
        return TaskRoute(unit.stack(None), task)


TUNED = SecondStageKind("tuned", "base over its adapters", budget=("full", "tuned"), trains_base=True)
