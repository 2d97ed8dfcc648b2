"""What all units of a run share: recipe, tasks and processor, and how a unit is set up on a fresh base."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from transformers import set_seed

from graftwork.api import Adapters, attach
from graftwork.experiments.kinds import UNIT_KINDS, Stage, Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.base import auto_class, load_base, load_processor
from graftwork.experiments.running.hashes import hash_base, hash_rows, hash_tokenizer
from graftwork.experiments.running.run_files import RunFiles
from graftwork.tasks import Task
from graftwork.training.encoding import Encoded


class RunContext(RunFiles):
    """What all units of a run share: recipe, tasks, processor, and where everything is.

    Args:
        recipe: The recipe.
        root: Its folder, for relative paths.
        run: The run's folder.
        tasks: The recipe's tasks, read.
        from_files: Whether what a unit needs of others is read from their files; else it is made anew, to measure times.
    """

    def __init__(
        self, recipe: Recipe, root: Path, run: Path, tasks: Mapping[str, Task], *, from_files: bool = True
    ) -> None:
        super().__init__(recipe, root, run)
        self.tasks, self.from_files = tasks, from_files
        self.fusion_config, self.scalearn_config = recipe.fusion_config, recipe.scalearn_config
        self.route_config = recipe.route_config
        self.auto = auto_class(recipe.kinds)
        self.processor = load_processor(recipe.base, recipe.kinds, root)
        self._encoded: tuple[tuple[str, int | None], Encoded] | None = None
        self.rows_hash = functools.cache(lambda task: hash_rows(self.tasks[task]))

    @functools.cached_property
    def base_hash(self) -> str:
        """The hash of the base's files; a base of the Hub that is not on this machine yet is loaded first."""
        table = self.recipe.base
        found = hash_base(table, self.root)
        if found is None:
            load_base(table, self.auto, self.root)
            found = hash_base(table, self.root)
        return found or ""  # weights in a form that only transformers knows

    @functools.cached_property
    def tokenizer_hash(self) -> str:
        """The hash of the files of its tokenizer, or of its processor of images."""
        return hash_tokenizer(self.recipe.base, self.root)

    def fresh(self) -> Adapters:
        """The base anew, with nothing on it."""
        return attach(load_base(self.recipe.base, self.auto, self.root))

    def encoded(self, name: str, seed: int, *, few_shot: bool = False) -> Encoded:
        """A task's features with a seed; the last task's are kept, since the units of a target follow one another."""
        task = self.tasks[name].of_seed(seed)
        if few_shot:
            return Encoded(task.few_shot(), self.processor, self.recipe.base.max_length)
        kept = (name, seed if task.folds else None)
        if self._encoded is None or self._encoded[0] != kept:
            self._encoded = kept, Encoded(task, self.processor, self.recipe.base.max_length)
        return self._encoded[1]

    def set_up(self, unit: Unit) -> tuple[Adapters, Stage]:
        """A fresh base with what a unit trains."""
        set_seed(unit.seed)
        adapters = self.fresh()
        return adapters, self.put(unit, adapters)

    def put(self, unit: Unit, adapters: Adapters) -> Stage:
        """Put on a base, which may have other adapters, what a unit trains; the random generators are not seeded anew."""
        for below in unit.stacked_on:
            self.load_dependency(adapters, below, below.task)  # without heads, which are not used
        return UNIT_KINDS[unit.kind].set_up(unit, adapters, self)

    def load_dependency(self, adapters: Adapters, unit: Unit, name: str, *, head: bool = False) -> None:
        """Put on the model what another unit has trained."""
        UNIT_KINDS[unit.kind].put(unit, name, adapters, self, head=head)

    def add_head(self, adapters: Adapters, name: str, task: str) -> None:
        """Give a name the head of a task."""
        adapters.add_head(name, self.tasks[task].head())

    def trains_adapters_below(self, task: str) -> bool:
        """Whether the adapters that a task is stacked on are trained again together with the base."""
        return self.recipe.tasks[task].adapters == "trained"
