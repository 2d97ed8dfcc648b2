"""What a kind of training is: facts about it, what it puts on the base, what is kept of it, and how that is loaded again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from graftwork.api import Adapters
from graftwork.compose import Composition, FusionConfig, RouteConfig, ScaLearnConfig
from graftwork.experiments.kinds.unit import Unit
from graftwork.methods import AdapterConfig
from graftwork.tasks import TaskSpec
from graftwork.training.joint_trainer import TaskRoute


class Plans(Protocol):
    """The units that a kind needs, according to a recipe."""

    tasks: dict[str, TaskSpec]
    first_seed: int  # of units that are trained once for all targets
    source: str | None  # the task that intermediate training starts with
    sequence: tuple[str, ...]  # the tasks in the order in which a sequence is trained on them
    targets: tuple[str, ...]

    def adapter(self, task: str, seed: int) -> Unit:
        """The unit of a task's own adapter."""

    def pool(self, target: str, seed: int) -> tuple[Unit, ...]:
        """The units whose adapters are combined for a target."""

    def tasks_of(self, kind: str) -> tuple[str, ...]:
        """The tasks that a kind trains at once."""

    def copies(self, seed: int) -> list[int]:
        """The seeds of copies of one adapter."""


class UnitFiles(Protocol):
    """Where the files of a run are, and the configurations of its adapters."""

    def folder(self, unit: Unit) -> Path:
        """The folder of a unit."""

    def adapter_folder(self, unit: Unit) -> Path:
        """The folder of a unit's adapter: in the run, or where the recipe says that it is trained already."""

    def adapter_config(self, unit: Unit) -> AdapterConfig:
        """The configuration of a unit's adapter."""


class SetUp(UnitFiles, Protocol):
    """What units are set up from: the files of others, heads and configurations."""

    from_files: bool  # what a unit needs of others is read from their files; else it is made anew, to measure times
    fusion_config: FusionConfig
    scalearn_config: ScaLearnConfig
    route_config: RouteConfig

    def trains_adapters_below(self, task: str) -> bool:
        """Whether the adapters that a task is stacked on are trained again together with the base."""

    def add_head(self, adapters: Adapters, name: str, task: str) -> None:
        """Give a name the head of a task."""

    def load_dependency(self, adapters: Adapters, unit: Unit, name: str, *, head: bool = False) -> None:
        """Put on the model what another unit has trained."""

    def is_given(self, unit: Unit) -> bool:
        """Whether the recipe names a folder for a unit's adapter, which was trained elsewhere."""


class Stage(NamedTuple):
    """What was put on the model.

    Attributes:
        saves: The name of the adapter, fusion or head that is kept, ``None`` for a whole base.
        folder: The folder that it is kept in, inside the unit's; for a whole base ``"base"`` if it is kept.
        top: What it trains or weighs, without what that is stacked on; ``None`` where no adapter is active.
        head: The head in use.
        base: Whether the base is trained with it and kept in ``"base"``.
        retrained: The adapters below it that are trained with the base. They are kept in ``"adapters"``: they fit that base alone.
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
        name: Its name in recipes, folders and results.
        title: Its name in columns and legends.
        row: Its name in the rows of a target's table, with ``{}`` for the number of its adapters; by default the title.
        budget: The tables of ``[training]`` that apply to it; a later one overrides an earlier one.
        trained_on: ``"task"``, ``"all"`` tasks at once, or a ``"sequence"`` of them.
        control: Whether a recipe's ``controls`` may name it.
        of_single: Whether it makes or weighs adapters of single tasks.
        weighs: Whether it weighs adapters against one another, so that their norms have to be the base's.
        fuses: Whether it does so by an attention, which is then reported.
        trains_base: Whether the base itself is trained.
        predicts: Whether its files are enough to predict with.
        few_shot: Whether training rows stand before each prompt.
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
    few_shot: bool = False

    @property
    def of_all(self) -> bool:
        """Whether it serves all tasks, with a score for each."""
        return self.trained_on != "task"

    @property
    def alone(self) -> str:
        """The kind that trains the same part of the model on one task alone."""
        return "full" if self.trains_base else "adapter"

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The units that a target gets where a recipe asks for this kind; none where it makes no sense for the target."""
        return (Unit(self.name, target, seed),)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """Put on the model what a unit trains, and choose what is trained.

        Args:
            unit: The unit.
            adapters: The handle of a base with the adapters that the unit is stacked on, and nothing else of this unit.
            context: The files, heads and configurations that it needs.
        """
        raise NotImplementedError

    def keep(self, unit: Unit, adapters: Adapters, stage: Stage, folder: Path) -> int:
        """Save what a unit has trained; returns the bytes on disk, or those of a whole base that is measured and not kept."""
        if stage.folder == "base":
            return size_of(adapters.save_base(folder / stage.folder))
        if stage.saves is None:
            return trained_bytes(adapters)
        size = size_of(adapters.save(stage.saves, folder / stage.folder))
        size += sum(size_of(adapters.save(name, folder / "adapters" / name)) for name in stage.retrained)
        return size + (size_of(adapters.save_base(folder / "base")) if stage.base else 0)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """Put what a unit has trained on the model, to predict with it.

        Args:
            unit: The unit.
            task: The task that is predicted, one of the unit's.
            adapters: The handle of the base with the adapters that the unit is stacked on. An adapter that is on it already is
                not read again.
            files: The files of the run.
            language: The language whose adapter replaces that of the unit's own language, if there is one.

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
            context: The files and configurations of the run.
            head: Whether to put its head there too.
        """
        if context.from_files or context.is_given(unit):
            adapters.load(context.adapter_folder(unit), name, head=head)
            return
        adapters.add(name, context.adapter_config(unit))
        if head:
            context.add_head(adapters, name, unit.task)


def from_source(
    kind: str, target: str, seed: int, plans: Plans, unit_of: Callable[[str, int], Unit]
) -> tuple[Unit, ...]:
    """The unit of a target that starts from the recipe's source, trained as ``unit_of(task, seed)``; none for the source itself."""
    assert plans.source is not None  # the recipe was refused otherwise
    if target == plans.source:
        return ()
    source = unit_of(plans.source, plans.first_seed)
    return (Unit(kind, target, seed, (source,), plans.adapter(target, seed).stacked_on),)


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def trained_weights(adapters: Adapters) -> int:
    """The number of trainable weights."""
    return sum(p.numel() for p in adapters.trainable_parameters())


def trained_bytes(adapters: Adapters) -> int:
    """The bytes of all trainable weights."""
    return sum(p.numel() * p.element_size() for p in adapters.trainable_parameters())
