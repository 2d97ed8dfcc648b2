"""Full fine-tuning: of a target, of a source that a target starts from, and of the target from there."""

from __future__ import annotations

import functools

from graftwork.api import Adapters
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, UnitKind, from_source
from graftwork.experiments.kinds.unit import Unit

REFERENCE = "full"  # the kind that costs and scores are compared with


class FullKind(UnitKind):
    """The whole base with a head."""

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A new head on the base, or on the base that a source has trained."""
        for source in unit.members:
            context.load_dependency(adapters, source, source.task)
        context.add_head(adapters, unit.task, unit.task)
        adapters.train_only(unit.task, base="trained")
        return Stage(None, "full", None, unit.task)


class SourceKind(FullKind):
    """The whole base trained on a source, which is kept for the targets that start from it."""

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """A new head on the base."""
        return super().set_up(unit, adapters, context)._replace(folder="base")

    def put(self, unit: Unit, name: str, adapters: Adapters, context: SetUp, *, head: bool) -> None:
        """The base that it trained."""
        if context.from_files:
            adapters.load_base(context.folder(unit) / "base")


class FromSourceKind(FullKind):
    """The whole base, which a source task has trained first."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """For every target but the source itself."""
        return from_source(self.name, target, seed, plans, functools.partial(Unit, SOURCE.name))


SOURCE = SourceKind("trunk", "fine-tuned source", budget=("full",), trains_base=True, predicts=False)
FULL = FullKind(REFERENCE, "full fine-tuning", budget=("full",), control=True, trains_base=True, predicts=False)
INTERMEDIATE_FULL = FromSourceKind(
    "intermediate_full",
    "full fine-tuning, from a source",
    budget=("full", "intermediate_full"),
    control=True,
    trains_base=True,
    predicts=False,
)
