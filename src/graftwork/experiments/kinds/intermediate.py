"""An adapter that a source task has trained first, trained further on the target (Pruksachatkun et al. 2020, arXiv:2005.00628)."""

from __future__ import annotations

from graftwork.api import Adapters
from graftwork.experiments.kinds.adapter import AdapterKind
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, from_source
from graftwork.experiments.kinds.unit import Unit


class IntermediateKind(AdapterKind):
    """The source's adapter, under the target's head."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """For every target but the source itself."""
        assert plans.source is not None
        source = plans.adapter(plans.source, plans.first_seed)
        return from_source(self.name, target, seed, plans, source)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The source's adapter with a new head."""
        (source,) = unit.members
        context.load_dependency(adapters, source, unit.task)
        return self.with_head(unit, adapters, context)


INTERMEDIATE = IntermediateKind(
    "intermediate",
    "single adapter, from a source",
    budget=("adapter", "intermediate"),
    control=True,
    of_single=True,
)
