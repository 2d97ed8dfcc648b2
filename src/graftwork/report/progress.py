"""How far a run is: what a view of it shows, kept apart from how it is shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS, Unit
from graftwork.experiments.planning.recipe import Recipe

_ENOUGH = 3  # steps before a speed is read off a unit that has just begun


@dataclasses.dataclass
class InHand:
    """A unit that is trained.

    Attributes:
        unit: Which it is.
        resumed: Whether it goes on from a checkpoint.
        began: When it did, in this process.
        before: Steps that were made before that.
        earlier: Steps made for the earlier tasks of a sequence, in this process.
        step: Steps made in all, of a sequence for the task in hand.
        steps: At most.
        loss: The last one that is known.
        metric: What the scores are of.
        scores: Of the evaluations in this process, of a sequence of those of the task in hand.
    """

    unit: Unit
    resumed: bool
    began: float
    before: int | None = None
    earlier: int = 0
    step: int = 0
    steps: int = 0
    loss: float | None = None
    metric: str = "score"
    scores: list[float] = dataclasses.field(default_factory=list)

    @property
    def made(self) -> int:
        """Steps of this process."""
        return self.earlier + (0 if self.before is None else self.step - self.before)


class Progress:
    """Follows a run.

    Args:
        recipe: Its recipe, for the budgets.
        clock: Gives the time in seconds.
    """

    def __init__(self, recipe: Recipe, clock: Callable[[], float]) -> None:
        self.recipe, self.clock = recipe, clock
        self.began = clock()
        self.units: tuple[Unit, ...] = ()
        self.results: dict[str, Mapping[str, Any]] = {}
        self.hands: dict[str, InHand] = {}  # by id: the units that are trained, several where they learn in one pass
        self.now: InHand | None = None  # that of which something was heard last
        self.lost: set[str] = set()  # by id: the units that failed or were left out
        self._left: list[InHand] = []  # which have ended before the others of their pass
        self._found: frozenset[str] = frozenset()  # what was done before this process
        self._made: dict[str, tuple[int, float]] = {}  # by kind: steps and seconds of this process
        self._epochs: dict[tuple[str, str], float] = {}  # by kind and task: steps an epoch

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
        if now.before is not None and step <= now.step:  # a sequence counts anew for its next task
            now.earlier, now.before, now.scores = now.made, None, []
        if now.before is None:
            now.before = step - 1
            epochs = self.recipe.budget(now.unit.kind, now.unit.method).epochs
            if UNIT_KINDS[now.unit.kind].trained_on != "sequence":  # whose other tasks are of other sizes
                self._epochs[now.unit.kind, now.unit.task] = steps / epochs
        now.step, now.steps = step, steps

    def logged(self, unit: Unit, values: Mapping[str, float]) -> bool:
        """Take what is known of a unit in hand; whether it is an evaluation."""
        self.now = now = self.hands[unit.id]
        now.loss = values.get("loss", now.loss)
        if "eval_score" not in values:
            return False
        # a task gives its main metric first
        named = (key.removeprefix("eval_") for key in values if key not in ("eval_score", "eval_loss"))
        now.metric = next((key for key in named if values[f"eval_{key}"] == values["eval_score"]), "score")
        now.scores.append(values["eval_score"])
        return True

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        """A unit is done."""
        self.results[unit.id] = result
        if unit.id in self.hands:
            self._left.append(self.hands.pop(unit.id))
        self.now = next(iter(self.hands.values()), None)
        if not self.hands:
            if any(hand.before is not None for hand in self._left):
                self._made[unit.kind] = self._so_far(unit.kind)
            self._left = []

    def failed(self, unit: Unit) -> None:
        """A unit failed, or is left out."""
        self.lost.add(unit.id)
        self.hands.pop(unit.id, None)
        self.now = next(iter(self.hands.values()), None)

    def elapsed(self) -> float:
        """Seconds of this process."""
        return self.clock() - self.began

    def speed(self, kind: str) -> float | None:
        """Seconds a step of a kind, evaluations and all; ``None`` where none was made yet.

        Of this process where it made some; else as the units tell that another process has trained.
        """
        steps, seconds = self._so_far(kind)
        if steps:
            return seconds / steps
        found = [r for id, r in self.results.items() if id in self._found and r["kind"] == kind and r["steps"]]
        steps = sum(r["steps"] for r in found)
        return sum(r["timings"]["train_seconds"] for r in found) / steps if steps else None

    def _so_far(self, kind: str) -> tuple[int, float]:
        """Steps and seconds of a kind in this process; a pass of several units has the steps of all and the time once."""
        steps, seconds = self._made.get(kind, (0, 0.0))
        hands = [hand for hand in (*self.hands.values(), *self._left) if hand.unit.kind == kind]
        made = sum(hand.made for hand in hands)
        if made >= _ENOUGH or (made and not self.hands):
            return steps + made, seconds + self.clock() - min(hand.began for hand in hands)
        return steps, seconds

    def steps_of(self, kind: str, task: str) -> int | None:
        """The most steps that a unit makes; ``None`` where no unit has learnt from the task yet."""
        budget = self.recipe.budget(kind)
        if (kind, task) in self._epochs:
            return round(self._epochs[kind, task] * budget.epochs)
        for (other, other_task), epoch in self._epochs.items():
            if other_task == task:  # the same rows, in batches of another size
                theirs = self.recipe.budget(other)
                rows = epoch * theirs.batch_size * theirs.accumulation
                return math.ceil(rows / budget.batch_size / budget.accumulation) * budget.epochs
        return None

    def left(self) -> tuple[float, list[Unit]]:
        """The most seconds that are left, as far as is known, and the units that nothing is known of yet.

        A unit that stops early, as most do, needs less.
        """
        seconds, unknown = 0.0, []
        for unit in self.units:
            if unit.id in self.results or unit.id in self.lost:
                continue
            speed, steps = self.speed(unit.kind), self.steps_of(unit.kind, unit.task)
            now = self.hands.get(unit.id)
            if speed is None or steps is None:
                unknown.append(unit)
            else:
                seconds += speed * max(steps - (now.earlier + now.step if now is not None else 0), 0)
        return seconds, unknown
