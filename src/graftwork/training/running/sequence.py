"""Task after task: after each, every earlier one is scored again. What is forgotten is seen, not guessed.

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
from typing import Any, NamedTuple

from transformers import TrainerCallback

from graftwork.api import Adapters
from graftwork.errors import RecipeError
from graftwork.training.planning.plan import Unit
from graftwork.training.running.checkpoints import Finished, last_finished
from graftwork.training.running.folder import CHECKPOINTS, STATE, STEPS, read_result, write_json
from graftwork.training.running.forgetting import Forgetting
from graftwork.training.running.going import Clock, go_on
from graftwork.training.running.hashes import hash_files, hash_json
from graftwork.training.running.joint import facts_of
from graftwork.training.running.kept import size_of, trained_bytes, trained_weights
from graftwork.training.running.made_with import clean
from graftwork.training.running.records import Shape, read_record
from graftwork.training.running.stages import adapter_folder
from graftwork.training.running.watching import Told, Watcher
from graftwork.training.running.workshop import Workshop
from graftwork.training.trainers.arguments import make_trainer
from graftwork.training.trainers.encoding import Encoded
from graftwork.training.trainers.outputs import autocast_as, predictions_of, scored
from graftwork.training.trainers.recipe_trainer import learnt
from graftwork.training.trainers.scores import scored_task, splits_of

Result = dict[str, Any]
Encode = Callable[[str], Encoded]


class _Saved(Shape):
    """How far a sequence is, with the hash of that, and of the files that the next step needs."""

    state: dict[str, Any]
    hash: str
    files: dict[str, str]


class Step(NamedTuple):
    """The end of one step of a sequence.

    Attributes:
        grafts: The model with what all tasks so far have of it.
        learnt: What was learnt in it: steps, epochs, best epoch, curves, weights.
    """

    grafts: Adapters
    learnt: Result


def go_through(unit: Unit, shop: Workshop, watcher: Watcher, clock: Clock) -> tuple[Result, dict[str, list[Any]]]:
    """Go through a sequence of tasks, from the last step that was finished.

    Args:
        unit: The unit; its tasks are in order.
        shop: Where it is trained.
        watcher: Is told of everything.
        clock: Counts the seconds of training.

    Returns:
        What ``result.json`` says, and the predictions of every task at the end.
    """
    folder = unit.folder(shop.run)
    state = _read(folder)
    watcher.begun(unit, bool(state["rows"]) or (folder / CHECKPOINTS).is_dir())
    predictions: dict[str, list[Any]] = {}
    tasks: dict[str, Result] = {}
    encoded = functools.cache(shop.encoded)  # every task is asked for again in each later step
    for step in _STEPS[unit.kind](unit, shop, encoded, len(state["rows"]), [clock, Told(watcher, unit)]):
        so_far = unit.tasks[: len(state["rows"]) + 1]
        began = time.perf_counter()
        for task in so_far:
            tasks[task], predictions[task] = _scored(unit, shop, step.grafts, encoded(task))
        step.learnt["milliseconds"] = 1000 * (time.perf_counter() - began) / _rows(shop, so_far)
        state["rows"].append([tasks[task]["score"] for task in so_far])
        state["learnt"].append(step.learnt)
        state["tasks"], state["predictions"] = tasks, predictions
        clock.stop()
        _write(folder, state)
    return _result(unit, state), state["predictions"]


def _write(folder: Path, state: Result) -> None:
    """Write how far a sequence is, behind the files that its next step needs."""
    needed = ("heads/", f"{len(state['rows']) - 1}/")
    files = {path: found for path, found in hash_files(folder / STEPS).items() if path.startswith(needed)}
    write_json(folder / STATE, {"state": state, "hash": hash_json(state), "files": files})


def _read(folder: Path) -> Result:
    """How far a sequence is; where that, or a file that the next step needs, is damaged, it begins anew."""
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
    unit: Unit, shop: Workshop, encoded: Encode, done: int, callbacks: Sequence[TrainerCallback]
) -> Iterator[Step]:
    """The base fine-tuned on a task, from where the task before left it."""
    folder, budget = unit.folder(shop.run), shop.recipe.budget(unit.kind)
    for number, task in enumerate(unit.tasks):
        if number < done:
            continue
        single = unit.step(task)
        grafts, _ = shop.set_up(single)
        if number:
            grafts.load_base(folder / STEPS / str(number - 1) / "base")
            for earlier in unit.tasks[:number]:
                grafts.load(folder / STEPS / "heads" / earlier, earlier, other_base=True)  # the base has gone on
            grafts.train_only(task, base="trained")
        at = folder / CHECKPOINTS / task
        trainer = make_trainer(single, shop.run, budget, grafts, encoded(task), [Finished(), *callbacks], at)
        go_on(trainer, last_finished(at), budget)
        grafts.save(task, folder / STEPS / "heads" / task)
        grafts.save_base(folder / STEPS / str(number) / "base")
        said = learnt(trainer.state)
        told = {"steps": said["steps"], "epochs": said["epochs"], "loss": said["curves"]["loss"]}
        yield Step(grafts, {**told, "trained_weights": trained_weights(grafts), "file_bytes": trained_bytes(grafts)})
        for old in (folder / STEPS / str(number - 1), at):  # what the next step needs is written by now
            shutil.rmtree(old, ignore_errors=True)


def _adapted(
    unit: Unit, shop: Workshop, encoded: Encode, done: int, callbacks: Sequence[TrainerCallback]
) -> Iterator[Step]:
    """One adapter more on the model, as its own unit has trained it."""
    grafts = shop.fresh()
    for number, member in enumerate(unit.members):
        at = adapter_folder(member, shop.recipe, shop.root, shop.run)
        grafts.load(at, member.task, head=True)
        if number >= done:
            told = read_result(member, shop.run)
            assert told is not None  # its turn comes behind its members'
            learnt = {
                "steps": 0,
                "epochs": 0,
                "trained_weights": told["trained_weights"],
                "file_bytes": size_of(at),
                "loss": [],
            }
            yield Step(grafts, learnt)


def _scored(unit: Unit, shop: Workshop, grafts: Adapters, encoded: Encoded) -> tuple[Result, list[Any]]:
    """A task's scores with the model as it is now."""
    model: Any = grafts.model
    budget, task = shop.recipe.budget(unit.kind), encoded.task.name

    def measure(rows: Any) -> tuple[dict[str, float], list[Any]]:
        autocast = autocast_as(model, budget.bf16)
        found, _ = predictions_of(model, encoded, rows, budget.eval_batch_size, autocast)
        return scored(encoded.task, found, rows), found

    with grafts.using(task if task in grafts.names else None, head=task):
        return scored_task(encoded.task, measure)


def _rows(shop: Workshop, tasks: tuple[str, ...]) -> int:
    return sum(len(rows) for task in tasks for rows in splits_of(shop.tasks[task]).values())


def _result(unit: Unit, state: Result) -> Result:
    learnt = state["learnt"]
    means = [sum(row) / len(row) for row in state["rows"]]
    counted = learnt if unit.members else learnt[-1:]  # an adapter more each step; or the same base again
    losses, before = [], 0
    for one in learnt:
        losses += [[before + step, loss] for step, loss in one["loss"]]
        before += one["steps"]
    return {
        **facts_of(unit, state["tasks"]),
        "sequence": Forgetting(unit.tasks, tuple(map(tuple, state["rows"]))).to_dict(),
        "epochs": sum(one["epochs"] for one in learnt),
        "best_epoch": len(learnt),
        "steps": before,
        "trained_weights": sum(one["trained_weights"] for one in counted),
        "file_bytes": sum(one["file_bytes"] for one in counted),
        "curves": {"loss": losses, "score": [[n + 1, mean] for n, mean in enumerate(means)]},
        "timings": {"milliseconds_a_row": round(learnt[-1]["milliseconds"], 2)},
    }


_STEPS: dict[str, Callable[[Unit, Workshop, Encode, int, Sequence[TrainerCallback]], Iterator[Step]]] = {
    "sequential": _fine_tuned,
    "sequential_adapters": _adapted,
}
