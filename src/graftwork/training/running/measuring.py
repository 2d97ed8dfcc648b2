"""What is measured of a unit when it is trained: scores on every split, in other languages, of what it knows."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from graftwork.api import Adapters
from graftwork.tasks import Rows
from graftwork.tasks.knowledge import cloze_ranks, commonest, read_knowledge, scores_of_ranks
from graftwork.tasks.reading import draw
from graftwork.training.planning.kinds import UNIT_KINDS
from graftwork.training.planning.plan import Unit
from graftwork.training.running.attention import mean_attention
from graftwork.training.running.kept import trained_weights
from graftwork.training.running.stages import Stage, adapter_folder, fusion_name, over
from graftwork.training.trainers.recipe_trainer import learnt
from graftwork.training.trainers.scores import scored_task, splits_of
from graftwork.training.trainers.task_trainer import TaskTrainer

if TYPE_CHECKING:
    from graftwork.training.running.workshop import Workshop

Result = dict[str, Any]
_MOST_ASKED = 500


def measured(
    unit: Unit, shop: Workshop, trainer: TaskTrainer, grafts: Adapters, stage: Stage
) -> tuple[Result, dict[str, list[Any]]]:
    """Everything that ``result.json`` says, but for the time of training and the size of the file; and the predictions.

    Args:
        unit: The unit, trained.
        shop: Where it was trained.
        trainer: What trained it.
        grafts: The handle of its model.
        stage: What was put on the model.
    """
    task = shop.tasks[unit.task]
    began = time.perf_counter()
    scores, predictions = scored_task(task, trainer.measured)
    seconds = (time.perf_counter() - began) / sum(map(len, splits_of(task).values()))
    result: Result = {
        "unit": unit.id,
        "kind": unit.kind,
        "task": unit.task,
        "seed": unit.seed,
        **({"method": unit.method} if unit.method else {}),
        "members": [member.id for member in unit.members],
        "under": [member.id for member in unit.under],
        **scores,
        **learnt(trainer.state),
        "trained_weights": trained_weights(grafts),
        "timings": {"milliseconds_a_row": round(1000 * seconds, 2)},
    }
    if UNIT_KINDS[unit.kind].fuses:
        result["attention"] = _attention(unit, shop, trainer, grafts)
    if unit.kind == "knowledge":
        result["cloze"] = _cloze(unit, shop, trainer, grafts)
    if task.elsewhere:
        result["language"] = task.spec.language
        result["elsewhere"] = _elsewhere(unit, shop, trainer, grafts, stage)
    return result, {task.name: predictions}


def _attention(unit: Unit, shop: Workshop, trainer: TaskTrainer, grafts: Adapters) -> Result:
    task = shop.tasks[unit.task]
    features, size = trainer.features(task.dev), trainer.args.eval_batch_size
    return mean_attention(grafts, fusion_name(unit), task.kind, features, shop.processor, size, trainer.autocast)


def _elsewhere(
    unit: Unit, shop: Workshop, trainer: TaskTrainer, grafts: Adapters, stage: Stage
) -> dict[str, dict[str, float]]:
    """The task's metrics on its other rows; a unit over a language's adapter gets that of the rows in its place."""
    found = {}
    for place, rows in shop.tasks[unit.task].elsewhere.items():
        with _speaking(place, unit, shop, grafts, stage):
            found[place] = trainer.measure(rows)[0]
    return found


@contextlib.contextmanager
def _speaking(language: str, unit: Unit, shop: Workshop, grafts: Adapters, stage: Stage) -> Iterator[None]:
    own = next((member for member in unit.under if member.kind == "language"), None)
    if own is None:
        yield
        return
    if language not in grafts.names:
        other = dataclasses.replace(own, task=language)
        grafts.load(adapter_folder(other, shop.recipe, shop.root, shop.run), language, head=False)
    with grafts.using(over(unit, stage.top, language), head=stage.head):
        yield


def _cloze(unit: Unit, shop: Workshop, trainer: TaskTrainer, grafts: Adapters) -> Result:
    """How well the objects are known, without the adapter and with it: of what was told, and of what was held out."""
    knowledge = read_knowledge(unit.task, shop.recipe.knowledge[unit.task], shop.root)
    found: Result = {}
    for part, every in knowledge.clozes().items():
        chosen = draw(Rows([{"cloze": n} for n in range(len(every))]), _MOST_ASKED)
        asked = [every[row["cloze"]] for row in chosen]
        scores = {}
        for moment, composition in (("before", None), ("after", unit.task)):
            with grafts.using(composition), trainer.autocast():
                ranks = cloze_ranks(grafts.model, asked, shop.processor, batch_size=trainer.args.eval_batch_size)
            scores[moment] = dataclasses.asdict(scores_of_ranks(ranks))
        found[part] = {**scores, "commonest": commonest(asked, knowledge.told)}
    return found
