"""The kinds of trainings that a recipe knows, in the order in which tables show them.

What a kind puts on the base is a function of `graftwork.training.running.stages` (or of `joint`, where it is trained on all tasks
at once); everything else that depends on a kind is a fact here.
"""

from __future__ import annotations

import dataclasses

REFERENCE = "full"  # the kind that costs and scores are held against


@dataclasses.dataclass(frozen=True)
class UnitKind:
    """What there is to know of a kind of unit.

    Attributes:
        name: In recipes, folders and results.
        title: What a column or a legend says.
        row: What a row of a target's table says, ``{}`` the number of its adapters; by default the title.
        budget: The tables of ``[training]`` that it follows, the last one first.
        over: What it is trained on: ``"task"``, ``"all"`` tasks at once, or a ``"sequence"`` of them.
        of_single: Whether it makes adapters of single tasks, or weighs such.
        weighs: Whether it weighs adapters against one another, whose norms therefore have to be the base's.
        fuses: Whether it does so by an attention that can be looked at.
        trains_base: Whether the base itself is trained.
        predicts: Whether its files are enough to predict with.
    """

    name: str
    title: str
    row: str = ""
    budget: tuple[str, ...] = ()
    over: str = "task"
    of_single: bool = False
    weighs: bool = False
    fuses: bool = False
    trains_base: bool = False
    predicts: bool = True

    @property
    def of_all(self) -> bool:
        """Whether it serves all tasks, with a score for each."""
        return self.over != "task"

    @property
    def alone(self) -> str:
        """The kind that trains as much of the model on a task by itself."""
        return "full" if self.trains_base else "adapter"


_ALL = (
    UnitKind("language", "language adapter", budget=("language",), predicts=False),
    UnitKind("knowledge", "knowledge adapter", budget=("knowledge",), predicts=False),
    UnitKind("trunk", "fine-tuned source", budget=("full",), trains_base=True, predicts=False),
    UnitKind("head", "head only", budget=("head",)),
    UnitKind("full", "full fine-tuning", budget=("full",), trains_base=True, predicts=False),
    UnitKind(
        "intermediate_full",
        "full fine-tuning, from a source",
        budget=("full", "intermediate_full"),
        trains_base=True,
        predicts=False,
    ),
    UnitKind(
        "sequential",
        "full fine-tuning, in sequence",
        budget=("full", "sequential"),
        over="sequence",
        trains_base=True,
        predicts=False,
    ),
    UnitKind(
        "multitask",
        "full fine-tuning, all tasks",
        budget=("full", "multitask"),
        over="all",
        trains_base=True,
        predicts=False,
    ),
    UnitKind("adapter", "single adapter", budget=("adapter",)),
    UnitKind("tuned", "base over its adapters", budget=("full", "tuned"), trains_base=True),
    UnitKind("method", "single adapter", budget=("adapter",)),
    UnitKind("longer", "single adapter, longer", budget=("adapter", "longer"), of_single=True),
    UnitKind("intermediate", "single adapter, from a source", budget=("adapter", "intermediate"), of_single=True),
    UnitKind("mt_shared", "shared adapter, all tasks", budget=("adapter", "mt_shared"), over="all"),
    UnitKind("new_task", "shared adapter, new task", budget=("adapter", "new_task")),
    UnitKind("mt_joint", "adapters and base, all tasks", budget=("full", "mt_joint"), over="all", trains_base=True),
    UnitKind(
        "sequential_adapters",
        "adapters, in sequence",
        budget=("adapter",),
        over="sequence",
        of_single=True,
        predicts=False,
    ),
    UnitKind("average", "uniform mean", "uniform mean of {}", ("average",), of_single=True, weighs=True),
    UnitKind("own", "fusion, own adapter", "fusion of own alone", ("fusion",), of_single=True, weighs=True, fuses=True),
    UnitKind("copies", "fusion, copies", "fusion of {} copies", ("fusion",), of_single=True, weighs=True, fuses=True),
    UnitKind("scalearn", "ScaLearn, all", "ScaLearn of all {}", ("scalearn",), of_single=True, weighs=True),
    UnitKind("fusion", "fusion, all", "fusion of all {}", ("fusion",), of_single=True, weighs=True, fuses=True),
    UnitKind(
        "fusion_mt",
        "fusion, jointly trained",
        "fusion of all, jointly trained",
        ("fusion", "fusion_mt"),
        of_single=True,
        weighs=True,
        fuses=True,
    ),
)
UNIT_KINDS = {kind.name: kind for kind in _ALL}
OF_SOURCES = ("adapter", "new_task", "tuned")  # what a task that is no target gets for itself
KINDS = tuple(UNIT_KINDS)
