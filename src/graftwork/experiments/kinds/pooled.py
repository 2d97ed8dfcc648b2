"""What is trained on top of a pool of adapters: an attention (AdapterFusion), scales (ScaLearn), a gate, a head on their mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from graftwork.api import Adapters
from graftwork.compose import Average, Composition, Fuse, LearnedConfig, Route, ScaLearn
from graftwork.compose.blocks import Learned
from graftwork.experiments.kinds.contract import Plans, SetUp, Stage, UnitFiles, UnitKind
from graftwork.experiments.kinds.unit import Unit
from graftwork.training.joint_trainer import TaskRoute


def fusion_name(unit: Unit) -> str:
    """The name of a unit's fusion."""
    return f"{unit.kind}-{unit.task}"


class PooledKind(UnitKind):
    """Trained on top of the adapters of the pool, which are frozen."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One unit on top of the adapters of the pool."""
        pool, below = self.pool(target, seed, plans), plans.adapter(target, seed).stacked_on
        return (Unit(self.name, target, seed, pool, below),)

    def pool(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The units of the pool, by default the adapters of all tasks."""
        return plans.pool(target, seed)

    def child_name(self, member: Unit) -> str:
        """The name of a member's adapter on the model."""
        return member.task

    def put_pool(self, unit: Unit, adapters: Adapters, context: SetUp) -> dict[str, Unit]:
        """Put the adapters of the pool on the model; returns their units by name."""
        names = {self.child_name(member): member for member in unit.members}
        for name, member in names.items():
            context.load_dependency(adapters, member, name, head=member.kind == "adapter")  # knowledge has no head
        return names

    def load_pool(self, unit: Unit, adapters: Adapters, files: UnitFiles) -> list[str]:
        """Put the adapters of the pool on the model from the files of a run, to predict; returns their names."""
        names = {self.child_name(member): member for member in unit.members}
        for name, member in names.items():
            if name not in adapters.names:
                adapters.load(files.adapter_folder(member), name, head=member.kind == "adapter")
        return list(names)


class FusionKind(PooledKind):
    """A trainable block over the pool."""

    def block(self, unit: Unit, names: Sequence[str]) -> Learned:
        """The block over adapters of some names."""
        return Fuse(*names, name=fusion_name(unit))

    def config(self, context: SetUp) -> LearnedConfig:
        """The configuration of the block."""
        return context.fusion_config

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The block, whose head starts as that of the target's own adapter."""
        names = self.put_pool(unit, adapters, context)
        own = next(name for name, member in names.items() if (member.task, member.seed) == (unit.task, unit.seed))
        return self.learned(unit, adapters, context, list(names), own)

    def learned(self, unit: Unit, adapters: Adapters, context: SetUp, names: Sequence[str], own: str) -> Stage:
        """The block over adapters that are on the model, its head a copy of that of one of them."""
        block = self.block(unit, names)
        adapters.add_fusion(block, self.config(context), head_from=own)
        adapters.train_only(block, active=unit.stack(block))
        return Stage(block.name, "fusion", block, block.name)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The pool and the block with its head."""
        block = self.block(unit, self.load_pool(unit, adapters, files))
        adapters.load(files.folder(unit) / "fusion", head=True)
        return TaskRoute(unit.stack(block, language), block.name)


class ScaLearnKind(FusionKind):
    """Trained scales instead of the attention."""

    def block(self, unit: Unit, names: Sequence[str]) -> Learned:
        """The block over adapters of some names."""
        return ScaLearn(*names, name=fusion_name(unit))

    def config(self, context: SetUp) -> LearnedConfig:
        """The configuration of the scales."""
        return context.scalearn_config


class RouteKind(FusionKind):
    """A trained gate, which chooses a few of the pool."""

    def block(self, unit: Unit, names: Sequence[str]) -> Learned:
        """The block over adapters of some names."""
        return Route(*names, name=fusion_name(unit))

    def config(self, context: SetUp) -> LearnedConfig:
        """The configuration of the gate."""
        return context.route_config


class ArrowKind(RouteKind):
    """A gate that each LoRA brings along: only a head is trained, where the task has one."""

    def config(self, context: SetUp) -> LearnedConfig:
        """The configuration of the gate."""
        return dataclasses.replace(context.route_config, gate="arrow", scope="site")


class OwnKind(FusionKind):
    """A control: the fusion of the target's own adapter alone."""

    def pool(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The target's own adapter."""
        return (plans.adapter(target, seed),)


class CopiesKind(FusionKind):
    """A control: the fusion of copies of the target's adapter, trained with other seeds."""

    def units(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """One unit; none with folds, where the copies would be trained on the rows that it is scored on."""
        return () if plans.tasks[target].folds else super().units(target, seed, plans)

    def pool(self, target: str, seed: int, plans: Plans) -> tuple[Unit, ...]:
        """The copies."""
        return tuple(plans.adapter(target, other) for other in plans.copies(seed))

    def child_name(self, member: Unit) -> str:
        """The task with the seed."""
        return f"{member.task}@{member.seed}"


class AverageKind(PooledKind):
    """A control: a head over the uniform mean of the pool's outputs."""

    def composition(self, unit: Unit, names: Sequence[str], adapters: Adapters) -> Composition:
        """What stands for the pool, which is not trained."""
        return Average(*names)

    def set_up(self, unit: Unit, adapters: Adapters, context: SetUp) -> Stage:
        """The mean with a head that starts as a fusion's does."""
        mean = self.composition(unit, list(self.put_pool(unit, adapters, context)), adapters)
        head = fusion_name(unit)
        context.add_head(adapters, head, unit.task)
        own = adapters.head_of(unit.task)
        for path, module in adapters.head_of(head).items():
            module.load_state_dict(own[path].state_dict())
        adapters.train_only(head, active=unit.stack(mean), head=head)
        return Stage(head, "head", mean, head)

    def load(self, unit: Unit, task: str, adapters: Adapters, files: UnitFiles, language: str | None) -> TaskRoute:
        """The pool and the head."""
        mean = self.composition(unit, self.load_pool(unit, adapters, files), adapters)
        return TaskRoute(unit.stack(mean, language), str(adapters.load(files.folder(unit) / "head")))


class MergeKind(AverageKind):
    """A control: a head over one adapter whose weights are the uniform mean of the pool's."""

    def composition(self, unit: Unit, names: Sequence[str], adapters: Adapters) -> Composition:
        """The adapter, made anew from the pool each time."""
        name = f"{fusion_name(unit)}-weights"
        if name not in adapters.names:
            adapters.merge(name, names, head_from=unit.task)
        return name


AVERAGE = AverageKind(
    "average", "uniform mean", "uniform mean of {}", ("average",), control=True, of_single=True, weighs=True
)
MERGE = MergeKind(
    "merge", "merged weights", "merged weights of {}", ("average",), control=True, of_single=True, weighs=True
)
OWN = OwnKind(
    "own",
    "fusion, own adapter",
    "fusion of own alone",
    ("fusion",),
    control=True,
    of_single=True,
    weighs=True,
    fuses=True,
)
COPIES = CopiesKind(
    "copies",
    "fusion, copies",
    "fusion of {} copies",
    ("fusion",),
    control=True,
    of_single=True,
    weighs=True,
    fuses=True,
)
SCALEARN = ScaLearnKind(
    "scalearn", "ScaLearn, all", "ScaLearn of all {}", ("scalearn",), control=True, of_single=True, weighs=True
)
ROUTE = RouteKind(
    "route", "routed", "routed among {}", ("route",), control=True, of_single=True, weighs=True, fuses=True
)
ARROW = ArrowKind(
    "arrow", "Arrow", "Arrow among {}", ("average",), control=True, of_single=True, weighs=True, fuses=True
)
FUSION = FusionKind(
    "fusion", "fusion, all", "fusion of all {}", ("fusion",), control=True, of_single=True, weighs=True, fuses=True
)
