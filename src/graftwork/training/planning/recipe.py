"""The recipe: base, adapter, tasks, targets, seeds and budget of a whole run, in one TOML file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from graftwork.compose import FusionConfig, ScaLearnConfig
from graftwork.errors import GraftworkError, RecipeError
from graftwork.methods import AdapterConfig, config_from_dict
from graftwork.tasks import Kind, TaskSpec, kinds
from graftwork.tasks.knowledge import KnowledgeSpec
from graftwork.tasks.languages import LanguageSpec
from graftwork.tasks.needs import hint
from graftwork.training.planning.budget import Budget, Changes, StageBudget
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.naming import check_apart, check_name
from graftwork.training.planning.serving import refuse_unservable
from graftwork.training.planning.tables import BaseTable, MixingTable, budget_of, method_of
from graftwork.training.planning.tuning import refuse_untunable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Control = Literal[
    "head",
    "full",
    "average",
    "own",
    "copies",
    "adapter",
    "fusion",
    "scalearn",
    "longer",
    "intermediate",
    "intermediate_full",
    "sequential",
    "sequential_adapters",
    "multitask",
    "mt_shared",
    "mt_joint",
    "fusion_mt",
]
CONTROLS: tuple[Control, ...] = ("head", "full", "average", "own", "copies")
ALL, SHARED = "all-tasks", "shared"  # what units of all tasks are called, and their one adapter
_OF_A_SOURCE = ("intermediate", "intermediate_full")

# What a kind of adapter is where the recipe does not say: of arXiv:2005.00247, 2005.00052 and 2005.11787.
_ADAPTERS: dict[str, dict[str, Any]] = {
    "adapter": {"method": "pfeiffer"},
    "language_adapter": {"method": "invertible_pfeiffer"},
    "knowledge_adapter": {"method": "houlsby", "norms": "base"},
}


class Recipe(BaseModel):
    """A whole run, as `Recipe.read` reads it.

    Attributes:
        base: The pretrained model.
        tasks: Every task by name: each gets an adapter, and is a source for every other that is a target.
        languages: Text of languages by name: each gets an adapter, over which those of tasks may stand.
        knowledge: Triples by name: each gets an adapter, over or beside which those of tasks may stand.
        trained: Adapters of languages or of knowledge that are there already: their folders by name, as another run of the
            same base has written them (``units/language/en/0/adapter``).
        targets: The tasks that a fusion is learnt for; by default none, and only adapters are trained.
        seeds: Every training for a target is repeated with each; sources use the first.
        controls: What stands beside the fusion in the table: ``head`` (the head only), ``full`` (full fine-tuning),
            ``average`` (a uniform mean of the same adapters), ``own`` (a fusion of the target's adapter alone), ``copies``
            (a fusion of the target's adapter re-trained with other seeds), ``scalearn`` (learned scales of the same
            adapters), ``longer`` (a single adapter with as many steps as both stages have), ``intermediate`` (a single adapter
            that starts from a source's) and ``intermediate_full`` (the same with the whole base).

            Of all tasks at once: ``multitask`` (the base and a head a task), ``mt_shared`` (one adapter and a head a task on the
            frozen base), ``mt_joint`` (an adapter a task, or one that serves all, trained together with the base), ``fusion_mt``
            (a fusion of those, on the base that was trained with them), ``sequential`` (full fine-tuning on task after task, all
            earlier ones scored after each) and ``sequential_adapters`` (adapters added task after task, the same scores).
        fuse: Whether every target gets its single adapter and its fusion; without, only what ``controls`` and ``methods`` name.
        methods: Other adapters for the targets, one row each: ``[methods.houlsby]``, or ``[methods.small]`` with ``method =
            "pfeiffer"`` and options; ``training = {learning_rate = 1e-3}`` in it is its own budget.
        source: The task that ``intermediate`` and ``intermediate_full`` learn first.
        order: The order of the tasks in a sequence; by default that of the tasks with the targets last.
        mixing: How often each task is drawn where all are trained at once; for one adapter that serves several tasks by default
            ∝ n^(1/10), as in its paper.
        copies: How many adapters ``copies`` fuses.
        together: How many adapters of tasks learn in one pass over the rows of all; each comes out as if it had been trained
            alone, but for what dropout draws.
        adapter: Of tasks: ``method`` and its options, such as ``{method = "pfeiffer", reduction_factor = 16}``. One that serves
            several tasks (``method = "hyperformer_plus_plus"``), here or in ``methods``, is one adapter of all tasks, trained on
            them at once over the frozen base; with ``tasks = [...]`` of those, and each other task joins by its embedding and
            head alone.
        language_adapter: The same, of languages.
        knowledge_adapter: The same, of knowledge.
        fusion: Options of the fusions (`graftwork.FusionConfig`).
        scalearn: Options of ``scalearn`` (`graftwork.ScaLearnConfig`).
        training: The budget of every training; tables inside it change that for one kind, such as ``[training.fusion]``.
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
    training: Budget = Budget()

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """A recipe from its file.

        Raises:
            RecipeError: Naming the file and the key that is wrong, and what it may be.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
        except ValueError as error:  # a path that no system has
            raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error}") from error
        try:
            return cls.make(tomllib.loads(text), str(path))
        except (ValueError, RecursionError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(f"{path} is no TOML: {error}") from error

    @classmethod
    def make(cls, data: Any, where: str = "the recipe") -> Recipe:
        """A recipe from its tables.

        Raises:
            RecipeError: Naming the key that is wrong, and what it may be.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = [f"  {_key(e['loc'])}: {_said(e, cls)}" for e in error.errors()]
            raise RecipeError("\n".join([f"{where} has {len(lines)} mistake(s):", *lines])) from error

    def adapter_config(self, kind: str = "adapter", method: str = "") -> AdapterConfig:
        """The configuration of the adapters of ``"language"``, of ``"knowledge"``, and of every other kind of unit.

        Args:
            kind: The kind of unit.
            method: Whose table says it, for the kind ``"method"``.
        """
        return method_of(method, self.methods[method]) if method else config_from_dict(getattr(self, _table(kind)))

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
        """The configuration of the scales."""
        return ScaLearnConfig(**self.scalearn)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The kinds of units that every target gets, beside its methods."""
        both = ("adapter", "fusion") if self.fuse else ()
        return tuple(dict.fromkeys([*both, *self.controls]))

    @property
    def sequence(self) -> tuple[str, ...]:
        """The tasks in the order in which a sequence learns them."""
        return self.order or tuple(sorted(self.tasks, key=lambda task: task in self.targets))

    def budget(self, kind: str, method: str = "") -> StageBudget:
        """The budget of one kind of training, for one method where it is of a method."""
        return self.training.of(kind, budget_of(self.methods[method]) if method else None)

    @field_validator("adapter", "language_adapter", "knowledge_adapter")
    @classmethod
    def _adapter(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        default = _ADAPTERS[str(info.field_name)]
        whole = value if "method" in value else {**default, **value}
        try:
            config_from_dict(whole)
        except GraftworkError as error:
            raise ValueError(str(error)) from error
        return whole

    @field_validator("fusion", "scalearn")
    @classmethod
    def _learned(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        try:
            (FusionConfig if info.field_name == "fusion" else ScaLearnConfig)(**value)
        except GraftworkError as error:
            raise ValueError(str(error)) from error
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
                raise ValueError(f"{name}.training.{_key(first['loc'])}: {_said(first, Changes)}") from error
        return value

    @field_validator("seeds", "targets", "controls", "order")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [v for v in value if value.count(v) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands there twice")
        return value

    @model_validator(mode="after")
    def _targets(self) -> Recipe:
        for target in self.targets:
            if target not in self.tasks:
                raise ValueError(f"the target {target!r} is no task; the tasks are {', '.join(self.tasks)}")
            if self._weighs and len(self.tasks) + len(self.tasks[target].beside) < 2:
                raise ValueError(
                    "a fusion needs two tasks or more; give more [tasks.NAME], fuse = false, or no targets"
                )
        fused = ["adapter"] * bool(self.targets and self._weighs)
        fused += ["knowledge"] * any(self.tasks[target].beside for target in self.targets)
        for kind in fused:
            if self.adapter_config(kind).norms == "own":
                table = _table(kind)
                raise ValueError(
                    f"{table}: {getattr(self, table)['method']} trains norms of its own, which cannot be fused or averaged; "
                    f'say norms = "base" in [{table}], or no targets'
                )
        return self

    @property
    def _weighs(self) -> bool:
        return any(UNIT_KINDS[kind].weighs for kind in self.wanted)

    @model_validator(mode="after")
    def _sources_and_orders(self) -> Recipe:
        asking = [control for control in self.controls if control in _OF_A_SOURCE]
        if asking and self.source is None:
            raise ValueError(f'controls: {asking[0]} starts from a task\'s training; say which: source = "NAME"')
        if self.source is not None and self.source not in self.tasks:
            raise ValueError(f"source: {self.source!r} is no task; the tasks are {', '.join(self.tasks)}")
        if asking and self.targets == (self.source,):
            raise ValueError(
                f"source: {self.source!r} is the only target; {asking[0]} needs another task to start from"
            )
        if self.order and sorted(self.order) != sorted(self.tasks):
            raise ValueError(
                f"order names {', '.join(self.order)}; it must name every task once: {', '.join(self.tasks)}"
            )
        of_all = [control for control in self.controls if UNIT_KINDS[control].of_all]
        if of_all and len(self.tasks) < 2:
            raise ValueError(f"controls: {of_all[0]} is of several tasks; give more [tasks.NAME]")
        over = [name for name, task in self.tasks.items() if task.language or task.knowledge]
        if of_all and over:
            raise ValueError(
                f"controls: {of_all[0]} trains all tasks at once, and tasks.{over[0]} stands over another adapter; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _serving(self) -> Recipe:
        refuse_unservable(self)
        return self

    @model_validator(mode="after")
    def _one_pass(self) -> Recipe:
        budget = self.budget("adapter")
        asked = {
            "accumulation": budget.accumulation > 1,
            "gradient_checkpointing": budget.gradient_checkpointing,
            "tensorboard": budget.tensorboard,
        }
        unable = [key for key, is_asked in asked.items() if is_asked]
        if self.together > 1 and unable:
            raise ValueError(
                f"together is {self.together} and training.{unable[0]} is {getattr(budget, unable[0])}: a pass of several adapters "
                "has one batch of each a step, and no checkpointing or TensorBoard of its own; leave one of the two out"
            )
        if self.together > 1 and self.adapter_config().injected:
            raise ValueError(
                f"together is {self.together} and the adapter is one of peft's, which is the same for all rows of a pass; leave "
                "together out, or take a method of graftwork"
            )
        return self

    @model_validator(mode="after")
    def _names(self) -> Recipe:
        names = [*self.tasks, *self.languages, *self.knowledge, *self.trained]
        if len(names) == len(self.trained):
            raise ValueError("there is nothing to train; give a [tasks.NAME], a [languages.NAME] or a [knowledge.NAME]")
        for name in names:
            check_name(name, "the task")
            check_apart(name, UNIT_KINDS, self.tasks)
            if name in (ALL, SHARED):
                raise ValueError(f"the task {name!r}: what is trained for all tasks is called so; give it another name")
            if names.count(name) > 1:
                raise ValueError(
                    f"{name!r} is the name of two of tasks, languages, knowledge and what is trained; their adapters stand on one "
                    "model, so give each a name of its own"
                )
        return self

    @model_validator(mode="after")
    def _prompts_apart(self) -> Recipe:
        told: dict[str, str] = {}
        for name, task in self.tasks.items():
            for text in task.described:
                other = told.setdefault(" ".join(text.lower().split()), name)
                if other != name:
                    raise ValueError(f"tasks.{name}: {text!r} describes {other!r} too; give each task words of its own")
        return self

    @model_validator(mode="after")
    def _what_tasks_stand_over(self) -> Recipe:
        for name, task in self.tasks.items():
            named = [("language", "languages", task.language)] if task.language is not None else []
            named += [("evaluate_in", "languages", place) for place in task.evaluate_in if task.language is not None]
            named += [("knowledge", "knowledge", one) for one in task.knowledge]
            named += [("beside", "knowledge", one) for one in task.beside]
            for key, table, one in named:
                known = [*getattr(self, table), *self.trained]
                if one not in known:
                    there = f"there are {', '.join(known)}" if known else "there are none"
                    raise ValueError(f"tasks.{name}.{key}: {one!r} is neither in [{table}] nor in [trained]; {there}")
            twice = [one for one in task.knowledge if [*task.knowledge, *task.beside].count(one) > 1]
            if twice:
                raise ValueError(
                    f"tasks.{name}: the knowledge {twice[0]!r} is named twice; an adapter stands there once"
                )
            refuse_untunable(self, name)
            if task.beside and name not in self.targets:
                raise ValueError(f"tasks.{name}.beside: only for a target is anything fused; give targets = [{name!r}]")
        return self


def _table(kind: str) -> str:
    return f"{kind}_adapter" if f"{kind}_adapter" in _ADAPTERS else "adapter"


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(the whole)"


def _said(error: Any, model: type[BaseModel]) -> str:
    given = error["input"]
    if error["type"] == "extra_forbidden":
        return f"this key is not known; {_way_out(error['loc'], model)}"
    if error["type"] == "missing":
        return "this key has to be given"
    said = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "literal_error":
        near = hint(given, re.findall("'([^']*)'", error["ctx"]["expected"]))
        said += f"; {near}" if near else ""
    return said if isinstance(given, (dict, list, BaseModel)) else f"{said} (it is {given!r:.200})"


def _way_out(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """What a key that is not known may be meant to be: one of another table, a near one of this, or any of this."""
    key = str(location[-1])
    if model is Recipe:
        tables: dict[str, type[BaseModel]] = {"base": BaseTable, "tasks.NAME": TaskSpec, "training": Budget}
        there = [f"[{table}]" for table, known in tables.items() if key in known.model_fields]
        if key in model.model_fields:
            return f"{key} stands at the top of the recipe, above every table"
        if there:
            return f"it is a key of {' and of '.join(there)}"
    at: Any = model
    for part in location[:-1]:
        at = get_args(at)[1] if get_origin(at) is dict else at.model_fields[str(part)].annotation
    keys = list(at.model_fields)
    return hint(key, keys) or f"there is {', '.join(keys[:20])}{', ...' if len(keys) > 20 else ''}"
