"""The frozen base as it is, asked by the prompt alone, and with some training rows before it (Brown et al. 2020, arXiv:2005.14165).

Nothing is trained. Only tasks that the base answers by itself have these rows; for any other it lacks a head.
"""

from __future__ import annotations

import dataclasses

from graftwork.experiments.kinds.contract import Plans
from graftwork.experiments.kinds.head import HeadKind
from graftwork.experiments.kinds.unit import Unit
from graftwork.tasks import kinds


@dataclasses.dataclass(frozen=True)
class FrozenBaseKind(HeadKind):
    """The base with a head that has no weights."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One of the first seed, since only folds depend on it; with examples only where the task says how many."""
        spec = plans.tasks[target]
        fits = not kinds[spec.kind].has_weights and (spec.shots > 0 or not self.few_shot)
        return (Unit(self.name, target, seed if spec.folds else plans.first_seed),) if fits else ()


ZERO_SHOT = FrozenBaseKind("zero_shot", "base, zero-shot", budget=("head",), control=True)
FEW_SHOT = FrozenBaseKind("few_shot", "base, few-shot", budget=("head",), control=True, predicts=False, few_shot=True)
