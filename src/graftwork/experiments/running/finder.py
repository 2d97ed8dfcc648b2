"""A run's finder, which tells the task of a text: fitted on the training texts of the tasks, kept in the run's folder."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from graftwork.api import Adapters
from graftwork.checkpoint.folders import replace_file
from graftwork.errors import RecipeError
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import write_json
from graftwork.experiments.running.hashes import hash_json
from graftwork.experiments.running.records import Shape, read_record
from graftwork.experiments.running.run_context import RunContext
from graftwork.tasks import Kind, Task
from graftwork.training.task_head import FEWEST, TaskHead
from graftwork.training.text_states import text_states

FOLDER = "finder"
_JSON, _TENSORS = "finder.json", "finder.safetensors"
_ROWS = 256  # texts a task
_PROBE = "What the base makes of this text tells it from another base."
_SAME = 0.99  # the least cosine of the probe's states, which differ by rounding and device


class _Record(Shape):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    tasks: list[str]
    texts: str
    tensors: str


@dataclasses.dataclass(frozen=True)
class KeptFinder:
    """The finder in a run's folder.

    Attributes:
        tasks: The tasks, in the order of the head.
        head: The head that scores tasks.
        probe: The state of a text that is the same for all finders, ``(width,)``: another base gives another one.
        texts: A hash of the texts that it was fitted on.
    """

    tasks: tuple[str, ...]
    head: TaskHead
    probe: Tensor
    texts: str

    def check_base(self, adapters: Adapters, tokenizer: Any, at: Path) -> None:
        """Refuse another base than the one that it was fitted on.

        Raises:
            RecipeError: If the base or its tokenizer is another one.
        """
        now = text_states(adapters, [_PROBE], tokenizer)[0].double()
        same = now.shape == self.probe.shape and torch.cosine_similarity(now, self.probe, dim=0) >= _SAME
        if not same:
            raise RecipeError(
                f"{at} was fitted on another base, or with another tokenizer, than the one that is there now; delete it, and "
                "the same `graftwork run` makes it again"
            )


def keep_finder(context: RunContext) -> None:
    """Fit the finder of a run of two tasks of text or more, where there is none for these texts yet.

    A run has none if a task has fewer than five different texts, which are too few to know how far they spread.
    """
    texts = {name: _texts(context.tasks[name], context.recipe) for name in tasks_of_text(context.recipe)}
    at = context.run / FOLDER
    if len(texts) < 2 or min(map(len, texts.values())) < FEWEST:
        return
    hashed = hash_json(texts)
    try:
        before = read_finder(at)
    except RecipeError:
        before = None
    if before is not None and before.texts == hashed:
        return
    adapters, limit = context.fresh(), context.recipe.base.max_length
    states = {name: text_states(adapters, some, context.processor, max_length=limit) for name, some in texts.items()}
    probe = text_states(adapters, [_PROBE], context.processor)[0]
    _write(at, KeptFinder(tuple(texts), TaskHead.fit(states), probe, hashed))


def tasks_of_text(recipe: Recipe) -> tuple[str, ...]:
    """The tasks whose inputs are texts."""
    kinds = {kind.name for kind in recipe.kinds if kind.processor == "tokenizer"}
    return tuple(name for name, spec in recipe.tasks.items() if spec.kind in kinds)


def _texts(task: Task, recipe: Recipe) -> list[str]:
    """Some texts of a task, each once: its descriptions, and some of its training rows; the short ones first."""
    rows = dict.fromkeys(filter(None, (text_of(task.kind, row) for row in task.train)))
    drawn = random.Random(f"{recipe.seeds[0]} {task.name}").sample([*rows], min(_ROWS, len(rows)))
    return sorted({*task.spec.described, *drawn}, key=lambda text: (len(text), text))


def text_of(kind: Kind, row: Mapping[str, Any]) -> str:
    """The inputs of a row as one text, as a user would type it."""
    first, *more = kind.reads
    roles = [first, *(["pair"] if "pair" in kind.options else []), *more]
    cells = [row.get(getattr(kind.spec, role)) for role in roles]
    texts: list[Any] = [text for cell in cells if cell for text in ([cell] if isinstance(cell, str) else cell)]
    # of a dialogue, what the user says
    return joined([t["content"] if t["role"] == "user" else "" for t in texts] if "messages" in kind.reads else texts)


def joined(texts: Sequence[Any]) -> str:
    """Several texts as one."""
    return " ".join(str(text).strip() for text in texts).strip()


def read_finder(at: Path) -> KeptFinder | None:
    """The finder in a folder; ``None`` where there is no such folder.

    Raises:
        RecipeError: If it is damaged, or of another version.
    """
    if not at.is_dir():
        return None
    try:
        record, data = read_record(at / _JSON, _Record), (at / _TENSORS).read_bytes()
        tasks = record["tasks"]
        if len(tasks) < 2 or len({*tasks}) < len(tasks):
            raise ValueError("it must have two tasks or more, each once")
        if record["tensors"] != hashlib.sha256(data).hexdigest():
            raise ValueError(f"{_TENSORS} is not what it was saved with")
        tensors = {name: tensor.double() for name, tensor in load(data).items()}
        probe = tensors.pop("probe")
        head = TaskHead(**tensors)
        _check(head, probe, len(tasks))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RecipeError) as error:
        raise RecipeError(
            f"{at} is damaged, or of another version ({error}); delete it, and the same `graftwork run` makes it again"
        ) from error
    return KeptFinder(tuple(tasks), head, probe, record["texts"])


def _check(head: TaskHead, probe: Tensor, tasks: int) -> None:
    width, directions = probe.numel(), head.spread.numel()
    expected = {
        "weight": (tasks, width),
        "bias": (tasks,),
        "means": (tasks, width),
        "directions": (directions, width),
        "spread": (directions,),
        "rest": (1,),
        "reach": (tasks,),
    }
    for name, tensor in head.tensors().items():
        if tensor.shape != expected[name] or not tensor.isfinite().all():
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, or is not finite")


def _write(at: Path, finder: KeptFinder) -> None:
    """Write a finder, the tensors first: the JSON has their hash."""
    tensors = {**finder.head.tensors(), "probe": finder.probe}
    data = save({name: tensor.float().contiguous() for name, tensor in tensors.items()})
    hashed = hashlib.sha256(data).hexdigest()
    record = {"version": 1, "tasks": list(finder.tasks), "texts": finder.texts, "tensors": hashed}
    at.mkdir(exist_ok=True)
    replace_file(at / _TENSORS, data)
    write_json(at / _JSON, record)
