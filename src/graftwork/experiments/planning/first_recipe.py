"""The text of a first recipe: a TOML file with a comment at each choice, which `graftwork run` takes as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.experiments.planning.toml_text import toml_key, toml_value
from graftwork.tasks.kind import kinds

_FEW, _MANY = 200, 2000  # train rows


@dataclasses.dataclass(frozen=True)
class FirstTask:
    """A task of a first recipe.

    Attributes:
        name: Its name.
        fields: Its fields in the recipe: the files, the kind and the columns that are not the usual ones.
        why: Why it is of this kind.
        rows: The number of its train rows.
        held_out: Whether its dev rows are held out of the train rows.
        labels: Its labels, where it has some.
        uneven: Whether some of them have far fewer rows than others.
    """

    name: str
    fields: Mapping[str, Any]
    why: str
    rows: int
    held_out: bool
    labels: Sequence[str] = ()
    uneven: bool = False

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return str(self.fields.get("kind", "classification"))


def first_recipe(base: str, tasks: Sequence[FirstTask], target: str, max_length: int, length_note: str) -> str:
    """Return the text of a recipe for some tasks, one of which is to be served best.

    Args:
        base: The pretrained model, as a recipe names it.
        tasks: The tasks.
        target: The name of the task that is to be served best; the others may lend it something.
        max_length: The most tokens of a row.
        length_note: What is known of the rows' lengths.
    """
    of_target = next(task for task in tasks if task.name == target)
    answers = kinds[of_target.kind].has_weights
    lines = [
        f"targets = [{toml_value(target)}]",
        *_compared(len(tasks) > 1, answers),
        "seeds = [0]                     # graftwork run --seeds 5 takes five, which says how sure the scores are",
        "",
    ]
    lines += ["[base]", f"model = {toml_value(base)}", f"# {length_note}", f"max_length = {max_length}", ""]
    lines += [
        "# `graftwork recommend` with this file says which method suits the task, and why.",
        "[adapter]",
        'method = "pfeiffer"',
        "reduction_factor = 16",
        "",
    ]
    for task in tasks:
        lines += _task(task)
    lines += _training(of_target.rows)
    return "\n".join(lines) + "\n"


def _compared(several: bool, answers: bool) -> list[str]:
    control = '"head"' if answers else '"zero_shot"'
    what = "the head alone on the frozen base" if answers else "the base as it is"
    if several:
        return [
            f'controls = [{control}, "own"]   # what the fusion of all adapters has to beat: {what}, and the target\'s own adapter'
        ]
    return [
        "fuse = false                    # a fusion needs two tasks or more",
        f'controls = ["adapter", {control}]  # what is trained: an adapter, and {what}, which it has to beat',
    ]


def _task(task: FirstTask) -> list[str]:
    lines = [f"# {task.why}", f"[tasks.{toml_key(task.name)}]"]
    lines += [f"{toml_key(key)} = {toml_value(value)}" for key, value in task.fields.items()]
    if task.held_out:
        share = 0.2 if task.rows < _FEW else 0.1
        lines.append(f"dev_share = {share}                 # held out to choose the best epoch by; or give dev = FILE")
    if task.labels and kinds[task.kind].form == "labels":
        if len(task.labels) == 2:
            positive = toml_value(task.labels[-1])
            lines.append(
                f'# metrics = ["f1", "accuracy"]   # the first chooses the best epoch; f1 also needs positive = {positive}'
            )
        mark = "" if task.uneven else "# "
        if task.uneven:
            lines.append(
                'metrics = ["macro_f1", "accuracy"]  # some labels are rare: every label counts alike in macro_f1'
            )
        lines.append(
            f'{mark}class_weights = "balanced"     # every label counts as much in the loss, however many rows it has'
        )
        if task.kind == "classification":
            lines.append(
                "# calibrate = true               # probabilities that can be relied on: a temperature fitted on the dev rows"
            )
    if kinds[task.kind].has_weights and "pooling" in kinds[task.kind].options:
        lines.append('# pooling = "mean"               # suits bases that were made for sentence embeddings')
    return [*lines, ""]


def _training(rows: int) -> list[str]:
    batch, epochs = (8, 20) if rows < _FEW else (16, 15) if rows < _MANY else (32, 10)
    return [
        "[training]",
        f"epochs = {epochs}                     # at most",
        "patience = 4                    # epochs without a better score, after which it ends",
        f"batch_size = {batch}",
        "learning_rate = 5e-4",
        'precision = "auto"              # bfloat16 or float16 where the machine is fast with it, else float32',
    ]
