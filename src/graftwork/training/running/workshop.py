"""What all units of a run share: recipe, tasks, processor, and how a unit comes to stand on a fresh base."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from transformers import set_seed

from graftwork.api import Adapters, attach
from graftwork.tasks import Task
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.base import auto_class, load_base, load_processor
from graftwork.training.running.hashes import hash_base, hash_rows, hash_tokenizer
from graftwork.training.running.stages import Stage, adapter_folder, load_joint, set_up
from graftwork.training.trainers.encoding import Encoded


class Workshop:
    """What all units of a run share: recipe, tasks, processor, and where everything lies.

    Args:
        recipe: The recipe.
        root: Its folder, for relative paths.
        run: The run's folder.
        tasks: The recipe's tasks, read.
    """

    def __init__(self, recipe: Recipe, root: Path, run: Path, tasks: Mapping[str, Task]) -> None:
        self.recipe, self.root, self.run, self.tasks = recipe, root, run, tasks
        self.auto = auto_class(recipe.kinds)
        self.processor = load_processor(recipe.base, recipe.kinds, root)
        self._encoded: Encoded | None = None
        self.rows_hash = functools.cache(lambda task: hash_rows(self.tasks[task]))

    @functools.cached_property
    def base_hash(self) -> str:
        """The hash of the base's files; one of the Hub that is not on this machine yet is loaded first."""
        table = self.recipe.base
        found = hash_base(table, self.root)
        if found is None:
            load_base(table, self.auto, self.root)
            found = hash_base(table, self.root)
        return found or ""  # a form of weights that transformers alone knows

    @functools.cached_property
    def tokenizer_hash(self) -> str:
        """The hash of the files of its tokenizer, or of its processor of images."""
        return hash_tokenizer(self.recipe.base, self.root)

    def fresh(self) -> Adapters:
        """The base anew, with nothing on it."""
        return attach(load_base(self.recipe.base, self.auto, self.root))

    def encoded(self, task: str) -> Encoded:
        """A task's features; the last task's are kept, since the units of a target follow one another."""
        if self._encoded is None or self._encoded.task.name != task:
            self._encoded = Encoded(self.tasks[task], self.processor, self.recipe.base.max_length)
        return self._encoded

    def set_up(self, unit: Unit, *, trained: bool = True) -> tuple[Adapters, Stage]:
        """A fresh base with what a unit trains on it.

        Args:
            unit: The unit.
            trained: Whether the adapters that it stands over are read from their files; else they are made anew.
        """
        set_seed(unit.seed)
        grafts = self.fresh()
        return grafts, self.put(unit, grafts, trained=trained)

    def put(self, unit: Unit, grafts: Adapters, *, trained: bool = True) -> Stage:
        """What a unit trains, on a base that may have others on it; what is drawn follows the state of the generators."""

        def add_head(name: str) -> None:
            grafts.add_head(name, self.tasks[unit.task].head())

        def bring(member: Unit, name: str, head: bool) -> None:
            self._bring(grafts, member, name, head, trained)

        return set_up(unit, grafts, self.recipe, add_head, bring)

    def _bring(self, grafts: Adapters, member: Unit, name: str, head: bool, trained: bool) -> None:
        """Put what another unit has trained on the model: its adapter, or its base with the adapters of all its tasks."""
        if UNIT_KINDS[member.kind].trains_base:
            if trained:
                load_joint(grafts, member, self.recipe, self.run, member.tasks, head=head)
            for task in () if trained else member.tasks:
                self._add(grafts, member, task, task if head else None)
        elif member.tasks and not trained:
            config = self.recipe.adapter_config(member.kind, member.method)
            grafts.add(name, config.with_members(member.tasks) if config.members else config)
        elif trained or member.task in self.recipe.trained:
            grafts.load(adapter_folder(member, self.recipe, self.root, self.run), name, head=head)
        else:
            self._add(grafts, member, name, member.task if head else None)

    def _add(self, grafts: Adapters, member: Unit, name: str, answers: str | None) -> None:
        """An adapter anew, as a unit would begin with it; with the head of a task, if it is to have one."""
        grafts.add(name, self.recipe.adapter_config(member.kind))
        if answers is not None:
            grafts.add_head(name, self.tasks[answers].head())
