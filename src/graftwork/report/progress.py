"""The progress of a run, and how much time is left, as data for a view."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.planning.recipe import Recipe

_ENOUGH = 3  # steps before a unit that has just begun has a speed


@dataclasses.dataclass
class InHand:
    """A unit that is being trained; in a sequence of tasks ``before``, ``step``, ``steps`` and ``scores`` are of one task.

    Attributes:
        unit: The unit.
        resumed: Whether it was resumed from a checkpoint.
        began: When this process began it.
        before: Steps that were made before that.
        made: Steps that this process has made.
        step: The current step.
        steps: The most steps.
        loss: The last known loss.
        metric: The metric of the scores.
        scores: The scores of the evaluations in this process.
    """

    unit: Unit
    resumed: bool
    began: float
    before: int = 0
    made: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    metric: str = "score"
    scores: list[float] = dataclasses.field(default_factory=list)


class Progress:
    """Counts the steps and units of a run with a recipe; ``clock`` returns the time in seconds."""

    def __init__(self, recipe: Recipe, clock: Callable[[], float]) -> None:
        self.recipe, self.clock = recipe, clock
        self.began = clock()
        self.units: tuple[Unit, ...] = ()
        self.results: dict[str, Mapping[str, Any]] = {}
        self.hands: dict[str, InHand] = {}  # by id: the units that are being trained, several if in one pass
        self.now: InHand | None = None  # the one that was heard of last
        self.lost: set[str] = set()  # the ids of units that failed or were left out
        self._left: list[InHand] = []  # units that have ended before the others of their pass
        self._found: frozenset[str] = frozenset()  # the ids of units that were done before this process
        self._made: dict[str, tuple[int, float]] = {}  # steps and seconds of this process by kind
        self._epochs: dict[tuple[str, str], float] = {}  # steps an epoch by kind and task

    def planned(self, units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the plan."""
        self.units, self.results, self._found = tuple(units), dict(done), frozenset(done)
        for result in done.values():
            if result["steps"]:
                rounds = len(result["sequence"]["order"]) if "sequence" in result else 1  # an epoch is one of each task
                self._epochs[result["kind"], result["task"]] = rounds * result["steps"] / max(result["epochs"], 1)

    def begun(self, unit: Unit, resumed: bool) -> None:
        """Take a unit in hand."""
        self.now = self.hands[unit.id] = InHand(unit, resumed, self.clock())

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        """Count a step."""
        self.now = now = self.hands[unit.id]
        if now.made and step <= now.step:  # a sequence counts anew for its next task
            now.before = now.step = step - 1
            now.scores = []
        elif not now.made:
            now.before = now.step = step - 1
            if UNIT_KINDS[unit.kind].trained_on != "sequence":  # the tasks of a sequence have different sizes
                self._epochs[unit.kind, unit.task] = steps / self.recipe.budget(unit.kind, unit.method).epochs
        now.made += step - now.step
        now.step, now.steps = step, steps

    def logged(self, unit: Unit, values: Mapping[str, float]) -> bool:
        """Note a loss or scores of a unit; return whether it is an evaluation."""
        self.now = now = self.hands[unit.id]
        now.loss = values.get("loss", now.loss)
        if "eval_score" not in values:
            return False
        # a task's main metric is its first
        names = (key.removeprefix("eval_") for key in values if key not in ("eval_score", "eval_loss"))
        now.metric = next((name for name in names if values[f"eval_{name}"] == values["eval_score"]), "score")
        now.scores.append(values["eval_score"])
        return True

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        """Note that a unit is done."""
        self.results[unit.id] = result
        if unit.id in self.hands:
            self._left.append(self.hands.pop(unit.id))
        self.now = next(iter(self.hands.values()), None)
        if not self.hands:
            if any(hand.made for hand in self._left):
                self._made[unit.kind] = self._so_far(unit.kind)
            self._left = []

    def failed(self, unit: Unit) -> None:
        """Note that a unit failed, or is left out."""
        self.lost.add(unit.id)
        self.hands.pop(unit.id, None)
        self.now = next(iter(self.hands.values()), None)

    def elapsed(self) -> float:
        """Seconds of this process."""
        return self.clock() - self.began

    def speed(self, kind: str) -> float | None:
        """Seconds a step of a kind, with evaluations; ``None`` if no step is known.

        Measured in this process if it made steps; else from the results of units that another process trained.
        """
        steps, seconds = self._so_far(kind)
        if steps:
            return seconds / steps
        found = [r for id, r in self.results.items() if id in self._found and r["kind"] == kind and r["steps"]]
        steps = sum(r["steps"] for r in found)
        return sum(r["timings"]["train_seconds"] for r in found) / steps if steps else None

    def _so_far(self, kind: str) -> tuple[int, float]:
        """Steps and seconds of a kind in this process; a pass of several units counts the steps of all and its time once."""
        steps, seconds = self._made.get(kind, (0, 0.0))
        hands = [hand for hand in (*self.hands.values(), *self._left) if hand.unit.kind == kind]
        made = sum(hand.made for hand in hands)
        if made >= _ENOUGH or (made and not self.hands):
            return steps + made, seconds + self.clock() - min(hand.began for hand in hands)
        return steps, seconds

    def steps_of(self, kind: str, task: str) -> int | None:
        """The most steps that a unit makes; ``None`` if no unit was trained on the task yet."""
        budget = self.recipe.budget(kind)
        if (kind, task) in self._epochs:
            return round(self._epochs[kind, task] * budget.epochs)
        for (other_kind, other_task), epoch in self._epochs.items():
            if other_task == task:  # the same rows, in batches of another size
                other = self.recipe.budget(other_kind)
                rows = epoch * other.batch_size * other.accumulation
                return math.ceil(rows / budget.batch_size / budget.accumulation) * budget.epochs
        return None

    def left(self) -> tuple[float, list[Unit]]:
        """The most seconds left, as far as known, and the units of unknown time; a unit that stops early needs less."""
        seconds, unknown = 0.0, []
        for unit in self.units:
            if unit.id in self.results or unit.id in self.lost:
                continue
            speed, steps = self.speed(unit.kind), self.steps_of(unit.kind, unit.task)
            now = self.hands.get(unit.id)
            if speed is None or steps is None:
                unknown.append(unit)
            else:
                seconds += speed * max(steps - (now.before + now.made if now is not None else 0), 0)
        return seconds, unknown
