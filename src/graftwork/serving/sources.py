"""What is served: the tasks of a run, and adapters that were saved by themselves, each as a task on a base."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.api import attach
from graftwork.checkpoint.folders import existing
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.checkpoint.manifest import AdapterManifest, HeadRecord, manifest_in, title
from graftwork.errors import CheckpointError, RecipeError, TaskError
from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.experiments.planning.tables import BaseTable
from graftwork.experiments.planning.validation_messages import key_of, message_of
from graftwork.experiments.running.base import auto_class, load_base, load_processor
from graftwork.experiments.running.folder import RECIPE, recipe_of, root_of
from graftwork.experiments.running.run_files import RunFiles
from graftwork.heads import Classification, HeadConfig, head_from_dict
from graftwork.inference.predictor import attached_base, kind_of, load_unit, unit_of, warn_of_other_tokenizer
from graftwork.inference.several_tasks import check_units
from graftwork.inference.task_routes import MARGIN, RunFinder
from graftwork.serving.base import Base, ServedTask
from graftwork.tasks import Kind, TaskSpec, kinds
from graftwork.tasks.kind.contract import find_kind

# The kind of task that a head is of, where an adapter is served without its recipe.
_KIND_OF_HEAD = {
    "classification": "classification",
    "regression": "regression",
    "multiple_choice": "multiple_choice",
    "token_classification": "tagging",
    "question_answering": "question_answering",
    "causal_lm": "generation",
    "seq2seq_lm": "text_to_text",
}


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / RECIPE).is_file()


def read_run(
    run: Path,
    *,
    seed: int | None = None,
    root: Path | None = None,
    margin: float = MARGIN,
    max_resident: int | None = None,
) -> tuple[Base, list[ServedTask]]:
    """Return the base of a run and its tasks, each predicted as `graftwork predict --task` does.

    A task of which nothing is done, or which needs a base of its own, is left out with a warning.

    Args:
        run: The run's folder.
        seed: The seed of the units; by default the first that is done.
        root: The folder that the recipe's paths are relative to; by default the recipe's folder when the run began.
        margin: By how much the best of the tasks has to lead where that of a text is sought.
        max_resident: See `Base`.

    Raises:
        RecipeError: If the folder is not a run's, no task can be served, or two tasks need one adapter of two seeds.
    """
    recipe, base_root = recipe_of(run), root_of(run, root)
    units = {}
    for task in recipe.tasks:
        try:
            unit = unit_of(recipe, run, task, None, seed)
            check_units({task: unit})
        except RecipeError as error:
            warnings.warn(f"{task!r} is not served: {error}", stacklevel=2)
            continue
        units[task] = unit
    if not units:
        raise RecipeError(f"{run} has no task that can be served; go on with `graftwork run`")
    check_units(units)
    adapters, files = attached_base(recipe, base_root), RunFiles(recipe, base_root, run)
    processor = load_processor(recipe.base, recipe.kinds, base_root)
    base = Base(run.resolve().name, adapters, processor, recipe.base.max_length, max_resident)
    tasks = []
    for task, unit in units.items():
        warn_of_other_tokenizer(unit, recipe, base_root, run)
        route = load_unit(adapters, unit, task, files)
        model: Any = adapters.model
        precision = recipe.budget(unit.kind, unit.method).precision_on(model.device)
        title_ = UNIT_KINDS[unit.kind].title
        tasks.append(
            ServedTask(
                task, kind_of(run, recipe, task, unit), base, *route, f"{base.name}: {title_}", precision=precision
            )
        )
    adapters.model.eval()
    if len(units) > 1:
        with contextlib.suppress(RecipeError):  # no finder and no descriptions: a request says its task, or is refused
            base.find = RunFinder(run, margin=margin, root=root, adapters=adapters).find
    return base, tasks


def read_base(
    model: str,
    folders: Iterable[Path],
    max_length: int | None = None,
    root: Path = Path(),
    max_resident: int | None = None,
) -> Base:
    """Return a base for adapters that were saved by themselves.

    Args:
        model: A folder, an installed package with a model in it, or a name on the Hub.
        folders: Those of the adapters: their heads say which class of transformers loads the base.
        max_length: The most tokens of a text; by default as many as tokenizer and model take, at most 512.
        root: The folder that a relative path is relative to.
        max_resident: See `Base`.

    Raises:
        RecipeError: If it cannot be loaded.
    """
    classes = {find_kind(spec, str(folder)) for folder in folders for spec in [spec_of(folder)]} or {
        kinds["classification"]
    }
    table = BaseTable(model=model, max_length=max_length or 512)
    processor = load_processor(table, classes, root)
    adapters = attach(load_base(table, auto_class(classes), root).eval())
    own = (
        getattr(processor, "model_max_length", None),
        getattr(adapters.model.config, "max_position_embeddings", None),
    )
    most = min([table.max_length, *(int(limit) for limit in own if limit)])
    return Base(Path(model).name, adapters, processor, most, max_resident)


def adapter_folders(folder: Path) -> Iterator[Path]:
    """Yield a folder that an adapter was saved to, or all such folders in it, by name.

    Raises:
        CheckpointError: If there is none.
    """
    if (folder / MANIFEST).is_file():
        yield folder
        return
    found = sorted(
        path.parent for path in existing(folder).glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")
    )
    if not found:
        raise CheckpointError(
            f"{folder} is no run and holds no saved adapter; give what `graftwork run` or `save` wrote into"
        )
    yield from found


def spec_of(folder: Path, task: dict[str, object] | None = None) -> TaskSpec:
    """Return what a saved adapter's task is: what is said of it, else what its head says.

    Raises:
        CheckpointError: If it is no adapter with a head.
        TaskError: If what is said is no task, or of another kind than its head.
    """
    config = _head_config(folder)
    given = {"kind": _kind_of(config, folder), **(task or {})}
    try:
        spec = TaskSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise TaskError(f"task.{key_of(first['loc'])}: {message_of(first, TaskSpec)}") from error
    kind = find_kind(spec, f"the task of {folder}")
    kind.check_spec(folder.name, spec)
    made = kind(spec, config.names, folder.name).head()
    if type(made) is not type(config):
        raise TaskError(
            f"{folder}: its head is a {type(config).__name__}, and a task of the kind {spec.kind} has a {type(made).__name__}; "
            f"give kind = {_kind_of(config, folder)!r}, or leave it out"
        )
    return spec


def saved_task(
    name: str, folder: Path, base: Base, *, task: dict[str, object] | None = None, adapter: str | None = None
) -> ServedTask:
    """Return the task of an adapter that was saved by itself; its adapter is read by `Base.admit`.

    Args:
        name: The task's name.
        folder: The adapter's folder.
        base: The base.
        task: What is said of the task, as a `TaskSpec`; by default what the head says, and columns of the usual names.
        adapter: The name of the adapter on the model; by default the task's.

    Raises:
        CheckpointError: If the folder holds no adapter with a head.
        TaskError: If what is said of the task does not fit.
    """
    spec = spec_of(folder, task)
    kind: Kind = find_kind(spec, f"the task {name!r}")(spec, tuple(_labels_of(_head_config(folder), spec)), name)
    at = name if adapter is None else adapter
    return ServedTask(name, kind, base, at, at, folder.name, folder=folder)


def _head_config(folder: Path) -> HeadConfig:
    held, _ = manifest_in(existing(folder))
    if not isinstance(held, AdapterManifest) or held.kind != "adapter":
        raise CheckpointError(f"{folder} holds the {title(held)}; an adapter that was saved by itself can be served")
    head: HeadRecord | None = held.head
    if head is None or head.config is None:
        raise CheckpointError(
            f"{folder}: the adapter {held.name!r} has no head of graftwork.heads, so that what it predicts is not known; save it "
            "from a graftwork.ModelWithHeads with one"
        )
    return head_from_dict(head.config)


def _kind_of(config: HeadConfig, folder: Path) -> str:
    if isinstance(config, Classification) and config.multi_label:
        return "multi_label"
    if config.kind not in _KIND_OF_HEAD:
        raise CheckpointError(f"{folder}: no kind of task is served by its head, a {type(config).__name__}")
    return _KIND_OF_HEAD[config.kind]


def _labels_of(config: HeadConfig, spec: TaskSpec) -> Sequence[str]:
    if isinstance(spec.choices, tuple):
        return spec.choices
    choices = getattr(config, "choices", None)
    return tuple(map(str, range(choices))) if isinstance(choices, int) else config.names
