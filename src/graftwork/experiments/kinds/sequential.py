"""Task after task: the base fine-tuned further on each, or an adapter added for each; `running/sequence.py` trains them."""

from __future__ import annotations

from graftwork.experiments.kinds.contract import Plans, UnitKind
from graftwork.experiments.kinds.joint import ALL
from graftwork.experiments.kinds.unit import Unit


class SequentialKind(UnitKind):
    """Full fine-tuning of one base on all tasks in order."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One unit for all targets."""
        return (Unit(self.name, ALL, seed, self.steps(seed, plans), tasks=plans.sequence),)

    def steps(self, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The units whose adapters are added one after the other."""
        return ()


class SequentialAdaptersKind(SequentialKind):
    """The adapters of all tasks, added in order."""

    def steps(self, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """Targets with the unit's seed, the others as they are trained for all."""
        return tuple(plans.adapter(t, seed if t in plans.targets else plans.first_seed) for t in plans.sequence)


SEQUENTIAL = SequentialKind(
    "sequential",
    "full fine-tuning, in sequence",
    budget=("full", "sequential"),
    trained_on="sequence",
    control=True,
    trains_base=True,
    predicts=False,
)
SEQUENTIAL_ADAPTERS = SequentialAdaptersKind(
    "sequential_adapters",
    "adapters, in sequence",
    budget=("adapter",),
    trained_on="sequence",
    control=True,
    of_single=True,
    predicts=False,
)
