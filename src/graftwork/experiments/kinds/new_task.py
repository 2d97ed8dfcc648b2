"""One more task of an adapter that serves several: only the new task's own weights are trained."""

from __future__ import annotations

from graftwork.api import Adapters
from graftwork.experiments.kinds.adapter import AdapterKind
from graftwork.experiments.kinds.contract import SetUp, Stage, UnitFiles
from graftwork.experiments.kinds.unit import Unit
from graftwork.training.joint_trainer import TaskRoute
from graftwork.weights.names import full_name


class NewTaskKind(AdapterKind):
    """One more member of a shared adapter; the parts of the other tasks are not kept with it."""

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The shared adapter with the new task's part alone."""
        (shared,) = unit.members
        context.load_dependency(adapters, shared, unit.task)
        before, new = adapters.members_of(unit.task), adapters.add_member(unit.task, unit.task)
        for member in before:
            adapters.remove(member)
        context.add_head(adapters, new, unit.task)
        adapters.train_only(new)
        return Stage(unit.task, "adapter", new, new)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The adapter with the new task's part, whose head it has."""
        return super().load(unit, task, adapters, files, language)._replace(head=full_name(task, task))


NEW_TASK = NewTaskKind("new_task", "shared adapter, new task", budget=("adapter", "new_task"))
