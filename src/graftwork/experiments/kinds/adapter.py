"""One adapter: of a task, of a language or of knowledge, or one that a source task has trained first.

The last is trained further on the target (Pruksachatkun et al. 2020, arXiv:2005.00628).
"""

from __future__ import annotations

from graftwork.api import Adapters
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, UnitFiles, UnitKind, from_source
from graftwork.experiments.kinds.unit import Unit
from graftwork.training.joint_trainer import TaskRoute


class AdapterKind(UnitKind):
    """An adapter and a head, on the frozen base."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The target's adapter, on those of its language and knowledge."""
        own = plans.adapter(target, seed)
        return (own,) if self.name == "adapter" else (Unit(self.name, target, seed, (), own.stacked_on),)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A new adapter with a head."""
        adapters.add(unit.task, context.adapter_config(unit))
        return self.with_head(unit, adapters, context)

    def with_head(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A head for the adapter that is there, and both trained."""
        context.add_head(adapters, unit.task, unit.task)
        adapters.train_only(unit.task, active=unit.stack(unit.task))
        return Stage(unit.task, "adapter", unit.task, unit.task)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The adapter with its head."""
        if task not in adapters.names:
            adapters.load(files.folder(unit) / "adapter", task, head=True)
        return TaskRoute(unit.stack(task, language), task)


class IntermediateKind(AdapterKind):
    """The source's adapter, under the target's head."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """For every target but the source itself."""
        return from_source(self.name, target, seed, plans, plans.adapter)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The source's adapter with a new head."""
        (source,) = unit.members
        context.load_dependency(adapters, source, unit.task)
        return self.with_head(unit, adapters, context)


LANGUAGE = AdapterKind("language", "language adapter", budget=("language",), predicts=False)
KNOWLEDGE = AdapterKind("knowledge", "knowledge adapter", budget=("knowledge",), predicts=False)
ADAPTER = AdapterKind("adapter", "single adapter", budget=("adapter",), control=True)
METHOD = AdapterKind("method", "single adapter", budget=("adapter",))
LONGER = AdapterKind("longer", "single adapter, longer", budget=("adapter", "longer"), control=True, of_single=True)
INTERMEDIATE = IntermediateKind(
    "intermediate", "single adapter, from a source", budget=("adapter", "intermediate"), control=True, of_single=True
)
