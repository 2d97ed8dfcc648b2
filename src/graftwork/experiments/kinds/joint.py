"""All tasks at once on one model: by a shared adapter, by an adapter a task together with the base, or by the base alone.

mt_shared   one adapter and a head a task on the frozen base
mt_joint    an adapter and a head a task, trained together with the base (Stickland & Murray 2019, arXiv:1902.02671;
            MT-A of Pfeiffer et al. 2020, arXiv:2005.00247); kept with the difference of the base
multitask   the base and a head a task
fusion_mt   a fusion of the adapters of ``mt_joint``, on the base that was trained with them

An adapter that serves several tasks (a hypernetwork) is one in the first two, with a member a task, ``"shared:mnli"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, UnitFiles, UnitKind, size_of, trained_bytes
from graftwork.experiments.kinds.pooled import FusionKind
from graftwork.experiments.kinds.unit import Unit
from graftwork.methods import AdapterConfig
from graftwork.training.joint_trainer import TaskRoute
from graftwork.weights.names import full_name

ALL, SHARED = "all-tasks", "shared"  # the name of units of all tasks, and of their one adapter


class JointKind(UnitKind):
    """An adapter and a head a task, trained together with the base; one adapter where its method serves several tasks."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One unit for all targets that it trains."""
        tasks = plans.tasks_of(self.name)
        return (Unit(self.name, ALL, seed, tasks=tasks),) if target in tasks else ()

    def route(self, unit: Unit, task: str, files: UnitFiles) -> TaskRoute:
        """The adapter and the head of a task: its own adapter, or its member of a shared one."""
        if files.adapter_config(unit).members:
            return TaskRoute(full_name(SHARED, task), full_name(SHARED, task))
        return TaskRoute(task, task)

    def routes(self, unit: Unit, files: UnitFiles) -> dict[str, TaskRoute]:
        """The adapter and the head of each task."""
        return {task: self.route(unit, task, files) for task in unit.tasks}

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """All adapters and heads."""
        routes = self.routes(unit, context)
        if any(route.composition not in (task, None) for task, route in routes.items()):
            adapters.add(SHARED, _shared_config(unit, context))
        for task, route in routes.items():
            if route.composition == task:
                adapters.add(task, context.adapter_config(unit))
            context.add_head(adapters, route.head, task)
        first, base = routes[unit.tasks[0]], "trained" if self.trains_base else "frozen"
        trained = [*adapters.names, *adapters.lone_heads]
        adapters.train_only(trained, active=first.composition, head=first.head, base=base)
        return Stage(None, "base")

    def keep(self, unit: Unit, adapters: Adapters, stage: Stage, folder: Path) -> int:
        """Save adapters, heads, and the base where it was trained with adapters; returns the bytes."""
        if not self.predicts:
            return trained_bytes(adapters)
        size = 0
        for name in (*adapters.names, *adapters.lone_heads):
            if name != SHARED:
                at = folder / ("adapters" if name in adapters.names else "heads") / name
                size += size_of(adapters.save(name, at))
        if SHARED in adapters.names:
            size += size_of(adapters.save(SHARED, folder / "adapter"))
        return size + (size_of(adapters.save_base(folder / "base")) if self.trains_base else 0)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The base where it was trained, the task's adapter or the shared one, and its head."""
        self.load_tasks(unit, [task], adapters, files)
        return self.route(unit, task, files)

    def load_tasks(
        self, unit: Unit, tasks: Sequence[str], adapters: Adapters, files: UnitFiles, *, head: bool = True
    ) -> None:
        """Put on the model what was trained for some tasks; a shared adapter that is there already is not read again.

        Raises:
            RecipeError: If an adapter of several tasks is of a version that gave it one embedding for all.
        """
        folder = files.folder(unit)
        if self.trains_base:
            adapters.load_base(folder / "base")
        for task in tasks:
            adapter = self.route(unit, task, files).composition
            if adapter == task:
                adapters.load(folder / "adapters" / task, task, head=head)
            elif SHARED not in adapters.names:
                adapters.load(folder / "adapter", SHARED)
                if adapter not in (*adapters.names, *adapters.members):
                    raise RecipeError(
                        f"{folder}: its adapter was trained with one embedding for all tasks, as version 0.1.0 did; remove the "
                        "folder and continue with `graftwork run`, which trains one a task"
                    )
            if head and adapter == SHARED:
                adapters.load(folder / "heads" / task, task)

    def put(self, unit: Unit, name: str, adapters: Adapters, context: SetUp, *, head: bool) -> None:
        """The base with the adapters of all tasks, each under the name of its task."""
        if context.from_files:
            self.load_tasks(unit, unit.tasks, adapters, context, head=head)
            return
        for task in unit.tasks:
            adapters.add(task, context.adapter_config(unit))
            if head:
                context.add_head(adapters, task, task)


class MultitaskKind(JointKind):
    """A head a task, trained together with the base."""

    def route(self, unit: Unit, task: str, files: UnitFiles) -> TaskRoute:
        """The base with the task's head."""
        return TaskRoute(None, task)


class SharedKind(JointKind):
    """One adapter for all tasks and a head a task, on the frozen base."""

    def route(self, unit: Unit, task: str, files: UnitFiles) -> TaskRoute:
        """The shared adapter, or the task's member of it; and its head."""
        found = super().route(unit, task, files)
        return found._replace(composition=SHARED) if found.composition == task else found

    def put(self, unit: Unit, name: str, adapters: Adapters, context: SetUp, *, head: bool) -> None:
        """The shared adapter."""
        if context.from_files:
            adapters.load(context.adapter_folder(unit), name, head=head)
        else:
            adapters.add(name, _shared_config(unit, context))


def _shared_config(unit: Unit, files: UnitFiles) -> AdapterConfig:
    """The configuration of the one adapter of all tasks, with a member for each where the method has members."""
    config = files.adapter_config(unit)
    return config.with_members(unit.tasks) if config.members else config


class FusionOfJointKind(FusionKind):
    """A fusion of adapters that were trained together with the base, on that base."""

    def pool(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The joint unit of all adapters."""
        return (Unit(MT_JOINT.name, ALL, seed, tasks=plans.tasks_of(MT_JOINT.name)),)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The base and its adapters, and the fusion."""
        (joint,) = unit.members
        context.load_dependency(adapters, joint, unit.task, head=True)
        return self.learned(unit, adapters, context, joint.tasks, unit.task)

    def load_pool(self, unit: Unit, adapters: Adapters, files: UnitFiles) -> list[str]:
        """The base and its adapters."""
        (joint,) = unit.members
        MT_JOINT.load_tasks(joint, joint.tasks, adapters, files)
        return list(joint.tasks)


MULTITASK = MultitaskKind(
    "multitask",
    "full fine-tuning, all tasks",
    budget=("full", "multitask"),
    trained_on="all",
    control=True,
    trains_base=True,
    predicts=False,
)
MT_SHARED = SharedKind(
    "mt_shared", "shared adapter, all tasks", budget=("adapter", "mt_shared"), trained_on="all", control=True
)
MT_JOINT = JointKind(
    "mt_joint",
    "adapters and base, all tasks",
    budget=("full", "mt_joint"),
    trained_on="all",
    control=True,
    trains_base=True,
)
FUSION_MT = FusionOfJointKind(
    "fusion_mt",
    "fusion, jointly trained",
    "fusion of all, jointly trained",
    ("fusion", "fusion_mt"),
    control=True,
    of_single=True,
    weighs=True,
    fuses=True,
)
