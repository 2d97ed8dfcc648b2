"""The tables of a recipe as data, each checked by itself; `recipe_checks` looks at them together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from graftwork.compose import FusionConfig, RouteConfig, ScaLearnConfig
from graftwork.errors import GraftworkError
from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.experiments.planning.budget import Budget, Changes
from graftwork.experiments.planning.tables import (
    BaseTable,
    MixingTable,
    TrackingTable,
    budget_of,
    check_name,
    method_of,
)
from graftwork.experiments.planning.validation_messages import key_of, message_of
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.tasks import Kind, TaskSpec, kinds
from graftwork.tasks.knowledge import KnowledgeSpec
from graftwork.tasks.languages import LanguageSpec
from graftwork.training.budget import StageBudget
from graftwork.training.sampling import TaskMixing

if TYPE_CHECKING:
    Control = str
else:
    Control = Literal[tuple(kind.name for kind in UNIT_KINDS.values() if kind.control)]
CONTROLS: tuple[Control, ...] = ("zero_shot", "few_shot", "head", "full", "average", "own", "copies")

# The adapters of a recipe that does not say: those of arXiv:2005.00247, 2005.00052 and 2005.11787.
_ADAPTERS: dict[str, dict[str, Any]] = {
    "adapter": {"method": "pfeiffer"},
    "language_adapter": {"method": "invertible_pfeiffer"},
    "knowledge_adapter": {"method": "houlsby", "norms": "base"},
}


class RecipeTables(BaseModel):
    """The tables and keys of a recipe.

    Attributes:
        base: The pretrained model.
        tasks: Every task by name: each gets an adapter, and is a source for every other that is a target.
        languages: Text of languages by name: each gets an adapter, on top of which those of tasks may be stacked.
        knowledge: Triples by name: each gets an adapter, on top of which those of tasks may be stacked, or which may be fused
            with them.
        trained: Adapters of languages or of knowledge that are there already: their folders by name, as another run of the
            same base has written them (``units/language/en/0/adapter``).
        targets: The tasks that a fusion is trained for; by default none, and only adapters are trained.
        seeds: Every training for a target is repeated with each; sources use the first.
        controls: What is compared with the fusion in the table: ``zero_shot`` (the base as it is, where it answers in words),
            ``few_shot`` (the same with a task's ``shots``), ``head`` (the head only), ``full`` (full fine-tuning), ``average`` (a
            uniform mean of the same adapters), ``merge`` (one adapter with the mean of their weights), ``own`` (a fusion of the
            target's adapter alone), ``copies`` (a fusion of the target's adapter re-trained with other seeds), ``scalearn``
            (trained scales of the same adapters), ``route`` (a trained gate that chooses among them), ``arrow`` (a gate that
            LoRAs bring along, arXiv:2405.11157), ``longer`` (a single adapter with as many steps as both stages have),
            ``intermediate`` (a single adapter that starts from a source's) and ``intermediate_full`` (the same with the whole
            base).

            Of all tasks at once: ``multitask`` (the base and a head a task), ``mt_shared`` (one adapter and a head a task on the
            frozen base), ``mt_joint`` (an adapter a task, or one that serves all, trained together with the base), ``fusion_mt``
            (a fusion of those, on the base that was trained with them), ``sequential`` (full fine-tuning on task after task, all
            earlier ones scored after each) and ``sequential_adapters`` (adapters added task after task, the same scores).
        fuse: Whether every target gets its single adapter and its fusion; without, only what ``controls`` and ``methods`` name.
        methods: Other adapters for the targets, one row of the table each: ``[methods.houlsby]``, or ``[methods.small]`` with
            ``method = "pfeiffer"`` and options; ``training = {learning_rate = 1e-3}`` in it is its own budget.
        source: The task that ``intermediate`` and ``intermediate_full`` are trained on first.
        order: The order of the tasks in a sequence; by default that of the tasks with the targets last.
        mixing: How often each task is drawn where all are trained at once; for one adapter that serves several tasks by default
            ∝ n^(1/10), as in its paper.
        copies: How many adapters ``copies`` fuses.
        together: How many adapters of tasks are trained in one pass over the rows of all; each comes out as if it had been
            trained alone, but for what dropout draws.
        adapter: The adapters of tasks: ``method`` and its options, such as ``{method = "pfeiffer", reduction_factor = 16}``.
            One that serves several tasks (``method = "hyperformer_plus_plus"``), here or in ``methods``, is one adapter of all
            tasks, trained on them at once on the frozen base; with ``tasks = [...]`` of those, and each other task joins by its
            embedding and head alone.
        language_adapter: The adapters of languages, likewise.
        knowledge_adapter: The adapters of knowledge, likewise.
        fusion: Options of the fusions (`graftwork.FusionConfig`).
        scalearn: Options of ``scalearn`` (`graftwork.ScaLearnConfig`).
        route: Options of ``route`` and ``arrow`` (`graftwork.RouteConfig`).
        training: The budget of every training; tables inside it change that for one kind, such as ``[training.fusion]``.
        tracking: Where curves are also written: ``{to = ["tensorboard", "wandb", "mlflow"]}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: BaseTable
    tasks: dict[str, TaskSpec] = {}
    languages: dict[str, LanguageSpec] = {}
    knowledge: dict[str, KnowledgeSpec] = {}
    trained: dict[str, str] = {}
    targets: tuple[str, ...] = ()
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0,)
    controls: tuple[Control, ...] = CONTROLS
    fuse: bool = True
    methods: dict[str, dict[str, Any]] = {}
    source: str | None = None
    order: tuple[str, ...] = ()
    mixing: MixingTable = MixingTable()
    copies: Annotated[int, Field(ge=2)] = 3
    together: Annotated[int, Field(ge=1)] = 1
    adapter: dict[str, Any] = _ADAPTERS["adapter"]
    language_adapter: dict[str, Any] = _ADAPTERS["language_adapter"]
    knowledge_adapter: dict[str, Any] = _ADAPTERS["knowledge_adapter"]
    fusion: dict[str, Any] = {}
    scalearn: dict[str, Any] = {}
    route: dict[str, Any] = {}
    training: Budget = Budget()
    tracking: TrackingTable = TrackingTable()

    def adapter_config(self, kind: str = "adapter", method: str = "") -> AdapterConfig:
        """The configuration of the adapters of ``"language"``, of ``"knowledge"``, and of every other kind of unit.

        Args:
            kind: The kind of unit.
            method: The name of its table ``[methods.NAME]``; empty for ``[adapter]``.
        """
        return method_of(method, self.methods[method]) if method else config_from_dict(getattr(self, table_of(kind)))

    @property
    def kinds(self) -> set[type[Kind]]:
        """The kinds of tasks that the base has to serve."""
        words = {"masked_lm"} if self.languages or self.knowledge or self.trained else set()
        return {kinds[name] for name in {*words, *(spec.kind for spec in self.tasks.values())}}

    @property
    def fusion_config(self) -> FusionConfig:
        """The configuration of every fusion."""
        return FusionConfig(**self.fusion)

    @property
    def scalearn_config(self) -> ScaLearnConfig:
        """The configuration of learned scales."""
        return ScaLearnConfig(**self.scalearn)

    @property
    def route_config(self) -> RouteConfig:
        """The configuration of gates."""
        return RouteConfig(**self.route)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The kinds of units that every target gets, in addition to its methods."""
        both = ("adapter", "fusion") if self.fuse else ()
        return tuple(dict.fromkeys([*both, *self.controls]))

    @property
    def trackers(self) -> tuple[str, ...]:
        """Where curves are also written, by ``[tracking]`` and ``training.tensorboard``."""
        return tuple(dict.fromkeys([*["tensorboard"] * self.training.tensorboard, *self.tracking.active]))

    @property
    def sequence(self) -> tuple[str, ...]:
        """The tasks in the order in which a sequence is trained on them."""
        return self.order or tuple(sorted(self.tasks, key=lambda task: task in self.targets))

    def budget(self, kind: str, method: str = "") -> StageBudget:
        """The budget of one kind of training, for one method where it is of a method."""
        return self.training.of(kind, budget_of(self.methods[method]) if method else None)

    def served(self, method: str = "") -> tuple[str, ...]:
        """The tasks that are trained together in one adapter of ``[methods.NAME]``, or of ``[adapter]``.

        Empty where each task has its own adapter. Where the table names ``tasks``, it is those, and every other task joins
        later by its own part of the adapter.
        """
        members = self.adapter_config(method=method).members
        if not members or len(self.tasks) < 2:
            return ()
        table = self.methods[method] if method else self.adapter
        return members if "tasks" in table else tuple(self.tasks)

    def mixing_of(self, method: str = "") -> TaskMixing:
        """How often each task is drawn: as ``[mixing]`` says, else by the paper's temperature for an adapter of several tasks."""
        table = self.mixing
        if "kind" not in table.model_fields_set and self.served(method):
            return TaskMixing(kind="temperature", temperature=table.temperature)
        return TaskMixing(kind=table.kind, temperature=table.temperature, fall=table.fall)

    @model_validator(mode="before")
    @classmethod
    def _a_seed_for_each_fold(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "seeds" in data or not isinstance(data.get("tasks"), dict):
            return data
        folds = {task.get("folds") for task in data["tasks"].values() if isinstance(task, dict)} - {None}
        count = folds.pop() if len(folds) == 1 else None
        return {**data, "seeds": [*range(count)]} if isinstance(count, int) and 2 <= count <= 100 else data

    @field_validator("adapter", "language_adapter", "knowledge_adapter")
    @classmethod
    def _adapter(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        default = _ADAPTERS[str(info.field_name)]
        whole = value if "method" in value else {**default, **value}
        config_from_dict(whole)
        return whole

    @field_validator("fusion", "scalearn", "route")
    @classmethod
    def _learned(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        {"fusion": FusionConfig, "scalearn": ScaLearnConfig, "route": RouteConfig}[str(info.field_name)](**value)
        return value

    @field_validator("methods")
    @classmethod
    def _methods(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, table in value.items():
            check_name(name, "the method")
            if not re.fullmatch(r"[\w+.][\w+. -]*", name):
                raise ValueError(
                    f"the method {name!r}: its name is a part of a folder's; use letters, digits, _ - + and ."
                )
            try:
                method_of(name, table)
            except GraftworkError as error:
                raise ValueError(f"{name}: {error}") from error
            try:
                budget_of(table)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{name}.training.{key_of(first['loc'])}: {message_of(first, Changes)}") from error
        return value

    @field_validator("seeds", "targets", "controls", "order")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [v for v in value if value.count(v) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return value


def table_of(kind: str) -> str:
    """The name of the table that configures the adapters of a kind of unit."""
    return f"{kind}_adapter" if f"{kind}_adapter" in _ADAPTERS else "adapter"
