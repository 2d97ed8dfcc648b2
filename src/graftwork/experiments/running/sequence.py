"""Task after task: after each, all tasks so far are scored again, which shows what is forgotten.

sequential           full fine-tuning of one base on task after task, with a head a task
sequential_adapters  an adapter a task on the frozen base, added one after the other: nothing is forgotten
"""

from __future__ import annotations

import functools
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.kinds.contract import size_of, trained_bytes, trained_weights
from graftwork.experiments.running.arguments import make_trainer
from graftwork.experiments.running.checkpoints import Clock, Finished, go_on, last_finished
from graftwork.experiments.running.folder import CHECKPOINTS, STATE, STEPS, read_result, write_json
from graftwork.experiments.running.forgetting import Forgetting
from graftwork.experiments.running.hashes import hash_files, hash_json
from graftwork.experiments.running.listeners import TrainerListener, Watcher
from graftwork.experiments.running.measuring import Measured, Result, facts_of, milliseconds_a_row
from graftwork.experiments.running.provenance import clean
from graftwork.experiments.running.records import Shape, read_record
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.tracking import tracker_callbacks
from graftwork.training.encoding import Encoded
from graftwork.training.outputs import autocast_as, predictions_of, scored
from graftwork.training.recipe_trainer import learnt
from graftwork.training.scores import scored_task

Encode = Callable[[str], Encoded]
Step = tuple[Adapters, Result]  # the model with what all tasks so far have of it, and the facts of the last training


class _Saved(Shape):
    """The state of a sequence, with its hash, and those of the files that the next step needs."""

    state: dict[str, Any]
    hash: str
    files: dict[str, str]


def go_through(unit: Unit, context: RunContext, watcher: Watcher, clock: Clock) -> Measured:
    """Train on a sequence of tasks, from the last step that was finished; returns the predictions at the end."""
    folder = context.folder(unit)
    state = _read(folder)
    watcher.begun(unit, bool(state["rows"]) or (folder / CHECKPOINTS).is_dir())
    predictions: dict[str, list[Any]] = {}
    tasks: dict[str, Result] = {}
    encoded = functools.cache(
        functools.partial(context.encoded, seed=unit.seed)
    )  # every task is needed again in each later step
    steps = _fine_tuned if unit.kind == "sequential" else _adapted
    for adapters, facts in steps(unit, context, encoded, len(state["rows"]), [clock, TrainerListener(watcher, unit)]):
        so_far = unit.tasks[: len(state["rows"]) + 1]
        began = time.perf_counter()
        for task in so_far:
            tasks[task], predictions[task] = _scored(unit, context, adapters, encoded(task))
        facts["milliseconds"] = milliseconds_a_row(began, (encoded(task).task for task in so_far))
        state["rows"].append([tasks[task]["score"] for task in so_far])
        state["learnt"].append(facts)
        state["tasks"], state["predictions"] = tasks, predictions
        clock.stop()
        _write(folder, state)
    return _result(unit, state), state["predictions"]


def _write(folder: Path, state: Result) -> None:
    """Write the state of a sequence, once the files that its next step needs are there."""
    needed = ("heads/", f"{len(state['rows']) - 1}/")
    files = {path: found for path, found in hash_files(folder / STEPS).items() if path.startswith(needed)}
    write_json(folder / STATE, {"state": state, "hash": hash_json(state), "files": files})


def _read(folder: Path) -> Result:
    """The state of a sequence; where it, or a file that the next step needs, is damaged, the sequence begins anew."""
    path = folder / STATE
    if path.is_file():
        try:
            saved = read_record(path, _Saved)
            there = hash_files(folder / STEPS)
            state: Result = saved["state"]
            if hash_json(state) == saved["hash"] and saved["files"].items() <= there.items():
                return state
        except RecipeError:
            pass
        warnings.warn(f"{path}, or a file that goes with it, is damaged; the sequence begins anew", stacklevel=3)
        clean(folder)
    return {"rows": [], "learnt": []}


def _fine_tuned(
    unit: Unit, context: RunContext, encoded: Encode, done: int, callbacks: Sequence[TrainerCallback]
) -> Iterator[Step]:
    """The base fine-tuned on a task, from where the task before left it."""
    folder, budget = context.folder(unit), context.recipe.budget(unit.kind)
    for number, task in enumerate(unit.tasks):
        if number < done:
            continue
        single = unit.step(task)
        adapters, _ = context.set_up(single)
        if number:
            adapters.load_base(folder / STEPS / str(number - 1) / "base")
            for earlier in unit.tasks[:number]:
                adapters.load(folder / STEPS / "heads" / earlier, earlier, other_base=True)  # the base has gone on
            adapters.train_only(task, base="trained")
        at = folder / CHECKPOINTS / task
        every = [Finished(), *callbacks, *tracker_callbacks(context, f"{unit.id}/{task}")]
        trainer = make_trainer(single, context, budget, adapters, encoded(task), every, at)
        go_on(trainer, last_finished(at), budget)
        adapters.save(task, folder / STEPS / "heads" / task)
        adapters.save_base(folder / STEPS / str(number) / "base")
        training = learnt(trainer.state)
        facts = {"steps": training["steps"], "epochs": training["epochs"], "loss": training["curves"]["loss"]}
        facts |= {"trained_weights": trained_weights(adapters), "file_bytes": trained_bytes(adapters)}
        yield adapters, facts
        for old in (folder / STEPS / str(number - 1), at):  # what the next step needs is written by now
            shutil.rmtree(old, ignore_errors=True)


def _adapted(
    unit: Unit, context: RunContext, encoded: Encode, done: int, callbacks: Sequence[TrainerCallback]
) -> Iterator[Step]:
    """One more adapter on the model, as its own unit has trained it."""
    adapters = context.fresh()
    for number, member in enumerate(unit.members):
        at = context.adapter_folder(member)
        adapters.load(at, member.task, head=True)
        if number >= done:
            result = read_result(member, context.run)
            assert result is not None  # members are trained first
            facts = {"steps": 0, "epochs": 0, "trained_weights": result["trained_weights"], "file_bytes": size_of(at)}
            yield adapters, {**facts, "loss": []}


def _scored(unit: Unit, context: RunContext, adapters: Adapters, encoded: Encoded) -> tuple[Result, list[Any]]:
    """A task's scores with the model as it is now."""
    model: Any = adapters.model
    budget, task = context.recipe.budget(unit.kind), encoded.task.name

    def measure(rows: Any) -> tuple[dict[str, float], list[Any]]:
        autocast = autocast_as(model, budget.precision_on(model.device))
        found, _ = predictions_of(model, encoded, rows, budget.eval_batch_size, autocast)
        return scored(encoded.task, found, rows), found

    with adapters.using(task if task in adapters.names else None, head=task):
        return scored_task(encoded.task, measure)


def _result(unit: Unit, state: Result) -> Result:
    trainings = state["learnt"]
    means = [sum(row) / len(row) for row in state["rows"]]
    counted = trainings if unit.members else trainings[-1:]  # each step has one more adapter, or the same base again
    losses, before = [], 0
    for one in trainings:
        losses += [[before + step, loss] for step, loss in one["loss"]]
        before += one["steps"]
    return {
        **facts_of(unit, state["tasks"]),
        "sequence": Forgetting(unit.tasks, tuple(map(tuple, state["rows"]))).to_dict(),
        "epochs": sum(one["epochs"] for one in trainings),
        "best_epoch": len(trainings),
        "steps": before,
        "trained_weights": sum(one["trained_weights"] for one in counted),
        "file_bytes": sum(one["file_bytes"] for one in counted),
        "curves": {"loss": losses, "score": [[n + 1, mean] for n, mean in enumerate(means)]},
        "timings": {"milliseconds_a_row": round(trainings[-1]["milliseconds"], 2)},
    }
