"""What a kind of training is: facts about it, what it puts on the base, what is kept of it, and how that is loaded again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple, Protocol

from graftwork.api import Adapters
from graftwork.compose import Composition, FusionConfig, ScaLearnConfig
from graftwork.experiments.kinds.sizes import size_of, trained_bytes
from graftwork.experiments.kinds.unit import Unit
from graftwork.methods import AdapterConfig
from graftwork.training.joint_trainer import TaskRoute


class Plans(Protocol):
    """What a recipe says of the units that a kind needs."""

    @property
    def first_seed(self) -> int:
        """The seed of units that are trained once for all targets."""

    @property
    def source(self) -> str | None:
        """The task that intermediate training starts with."""

    @property
    def sequence(self) -> tuple[str, ...]:
        """The tasks in the order in which a sequence learns them."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The target tasks."""

    def adapter(self, task: str, seed: int) -> Unit:
        """The unit of a task's own adapter."""

    def pool(self, target: str, seed: int) -> tuple[Unit, ...]:
        """The units whose adapters are combined for a target."""

    def tasks_of(self, kind: str) -> tuple[str, ...]:
        """The tasks that a kind trains at once."""

    def copies(self, seed: int) -> list[int]:
        """The seeds of copies of one adapter."""


class UnitFiles(Protocol):
    """What is known of a run, and where its files are."""

    def folder(self, unit: Unit) -> Path:
        """The folder of a unit."""

    def adapter_folder(self, unit: Unit) -> Path:
        """Where the adapter of a unit is: in the run, or where the recipe says that it is trained already."""

    def adapter_config(self, unit: Unit) -> AdapterConfig:
        """The configuration of a unit's adapter."""


class SetUp(UnitFiles, Protocol):
    """What units are set up from, beside the files of others."""

    from_files: bool  # what a unit needs of others is read from their files; else it is made anew, to measure times

    @property
    def fusion_config(self) -> FusionConfig:
        """The configuration of every fusion."""

    @property
    def scalearn_config(self) -> ScaLearnConfig:
        """The configuration of learned scales."""

    def trains_adapters_below(self, task: str) -> bool:
        """Whether the adapters that a task is stacked on are trained again together with the base."""

    def add_head(self, adapters: Adapters, name: str, task: str) -> None:
        """Give a name the head of a task."""

    def load_dependency(self, adapters: Adapters, unit: Unit, name: str, *, head: bool = False) -> None:
        """Put on the model what another unit has trained."""

    def is_given(self, unit: Unit) -> bool:
        """Whether a unit's adapter is given by the recipe, trained elsewhere."""


class Stage(NamedTuple):
    """What was put on the model.

    Attributes:
        saves: The name of what is kept of it, ``None`` for a whole base.
        folder: The name of the folder in the unit's that it is kept in; of a whole base ``"base"`` where it is kept.
        top: What it trains or weighs, without what that is stacked on; ``None`` where no adapter is active.
        head: The head in use.
        base: Whether the base is trained with it and kept in ``"base"``.
        retrained: The adapters below it that are trained with the base: kept in ``"adapters"``, since theirs is another base now.
    """

    saves: str | None
    folder: str
    top: Composition = None
    head: str | None = None
    base: bool = False
    retrained: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class UnitKind:
    """A kind of training.

    Attributes:
        name: In recipes, folders and results.
        title: What a column or a legend says.
        row: What a row of a target's table says, ``{}`` the number of its adapters; by default the title.
        budget: The tables of ``[training]`` that it follows, the last one first.
        trained_on: ``"task"``, ``"all"`` tasks at once, or a ``"sequence"`` of them.
        control: Whether a recipe's ``controls`` may name it.
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
    trained_on: str = "task"
    control: bool = False
    of_single: bool = False
    weighs: bool = False
    fuses: bool = False
    trains_base: bool = False
    predicts: bool = True

    @property
    def of_all(self) -> bool:
        """Whether it serves all tasks, with a score for each."""
        return self.trained_on != "task"

    @property
    def alone(self) -> str:
        """The kind that trains as much of the model on a task by itself."""
        return "full" if self.trains_base else "adapter"

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The units that a target gets where a recipe asks for this kind; none where it makes no sense for the target."""
        return (Unit(self.name, target, seed),)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """Put on the model what a unit trains, and choose what is trained.

        Args:
            unit: The unit.
            adapters: The handle of a base with the adapters that the unit is stacked on, and nothing else of this unit.
            context: Where what it needs is found.
        """
        raise NotImplementedError

    def keep(self, unit: Unit, adapters: Adapters, stage: Stage, folder: Path) -> int:
        """Save what a unit is for; returns the bytes on disk, for a whole base that is not kept those that it would have."""
        if stage.folder == "base":
            return size_of(adapters.save_base(folder / stage.folder))
        if stage.saves is None:
            return trained_bytes(adapters)
        size = size_of(adapters.save(stage.saves, folder / stage.folder))
        size += sum(size_of(adapters.save(name, folder / "adapters" / name)) for name in stage.retrained)
        return size + (size_of(adapters.save_base(folder / "base")) if stage.base else 0)

    def load(
        self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None = None
    ) -> TaskRoute:
        """Put what a unit has trained on the model, to predict with it.

        Args:
            unit: The unit.
            task: The task that is predicted, one of the unit's.
            adapters: The handle of the base with the adapters that the unit is stacked on; what has a name already is not read
                again.
            files: The run's.
            language: Whose adapter is below it in the place of the unit's own language.

        Returns:
            The composition that computes it, and the head in use.
        """
        raise NotImplementedError

    def put(self, unit: Unit, name: str, adapters: Adapters, context: SetUp, *, head: bool) -> None:
        """Put on the model what a unit has trained, for another one that uses it.

        Args:
            unit: The unit.
            name: The name of its adapter there.
            adapters: The handle of the model.
            context: Where its files are.
            head: With its head.
        """
        if context.from_files or context.is_given(unit):
            adapters.load(context.adapter_folder(unit), name, head=head)
            return
        adapters.add(name, context.adapter_config(unit))
        if head:
            context.add_head(adapters, name, unit.task)


def from_source(kind: str, target: str, seed: int, plans: Plans, source: Unit) -> tuple[Unit, ...]:
    """The unit of a target that starts from what a source has trained; none for the source itself."""
    if target == plans.source:
        return ()
    return (Unit(kind, target, seed, (source,), plans.adapter(target, seed).stacked_on),)
