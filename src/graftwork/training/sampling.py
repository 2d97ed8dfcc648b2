"""Which task a batch is of, where several are trained at once: with what probability, and which rows.

    p_i ∝ n_i^α            n_i rows of task i

α is 1 (proportional), 0 (uniform), 1/T (temperature), or falls from 1 by epoch (annealed, Stickland & Murray 2019, *BERT and
PALs*, arXiv:1902.02671): α = 1 − 0.8 (e − 1)/(E − 1) in epoch e of E.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from graftwork.errors import ConfigError
from graftwork.options import Options, one_of, within

KINDS = ("proportional", "uniform", "temperature", "annealed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskMixing(Options):
    """How often each task is drawn.

    Attributes:
        kind: ``"proportional"`` to the number of its rows, ``"uniform"``, ``"temperature"``, or ``"annealed"``.
        temperature: T of the second to last: 1 is proportional, endless is uniform.
        fall: How far α falls from 1 to the last epoch, where it is annealed.

    Raises:
        ConfigError: If a value is refused.
    """

    kind: str = "proportional"
    temperature: float = 10.0
    fall: float = 0.8

    def __post_init__(self) -> None:
        one_of(self, "kind", KINDS)
        within(self, "temperature", 1.0)
        within(self, "fall", 0.0, 1.0)

    def exponent(self, epoch: int = 1, epochs: int = 1) -> float:
        """α in an epoch, the first being 1."""
        if self.kind == "annealed":
            return 1.0 - self.fall * (epoch - 1) / (epochs - 1) if epochs > 1 else 1.0
        return {"proportional": 1.0, "uniform": 0.0, "temperature": 1.0 / self.temperature}[self.kind]

    def probabilities(self, sizes: Mapping[str, int], epoch: int = 1, epochs: int = 1) -> dict[str, float]:
        """The probability of each task.

        Args:
            sizes: The number of rows of each task.
            epoch: Which one, from 1.
            epochs: How many there are.
        """
        exponent, most = self.exponent(epoch, epochs), max(sizes.values())
        shares = {task: (size / most) ** exponent for task, size in sizes.items()}
        total = math.fsum(shares.values())
        return {task: share / total for task, share in shares.items()}


class TaskBatch(NamedTuple):
    """The rows of one batch.

    Attributes:
        task: Whose.
        rows: Their numbers in the task.
    """

    task: str
    rows: tuple[int, ...]


class TaskSampler:
    """Batches of several tasks, one task a batch; what is drawn depends on the seed and the step alone.

    Each task is gone through in passes, every row once a pass, in an order of the pass's own; the last batch of a pass may
    be smaller. Iterating goes on behind the batch that was handed out last, also after `load_state_dict`.

    Args:
        sizes: The number of rows of each task.
        batch_size: Rows a batch; one number for all tasks, or one for each.
        mixing: How often each task is drawn.
        epochs: How many epochs there are, as annealing counts them.
        steps: Batches an epoch; by default as many as it takes to see all rows of all tasks once.
        seed: Of everything that is drawn.

    Raises:
        ConfigError: If a task has no rows, or a number is refused.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_size: int | Mapping[str, int],
        *,
        mixing: TaskMixing | None = None,
        epochs: int = 1,
        steps: int | None = None,
        seed: int = 0,
    ) -> None:
        if not sizes:
            raise ConfigError("TaskSampler: there are no tasks; give the number of rows of each")
        self.sizes = {task: _count(f"sizes[{task!r}]", size) for task, size in sizes.items()}
        given = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(sizes, batch_size)
        if set(given) != set(sizes):
            raise ConfigError(
                f"TaskSampler: batch_size is for {list(given)}, and the tasks are {list(sizes)}; give each one"
            )
        self.batch_size = {task: _count(f"batch_size[{task!r}]", given[task]) for task in sizes}
        self.mixing = TaskMixing() if mixing is None else mixing
        self.epochs = _count("epochs", epochs)
        once = sum(self._batches(task) for task in sizes)
        self.steps = _count("steps", once if steps is None else steps)
        self.seed = seed
        self._step = 0
        self._drawn = dict.fromkeys(self.sizes, 0)
        self._order: dict[str, tuple[int, list[int]]] = {}

    def __len__(self) -> int:
        """Batches in all epochs together."""
        return self.epochs * self.steps

    def __iter__(self) -> Iterator[TaskBatch]:
        while self._step < len(self):
            task = self._task_at(self._step)
            rows = self._rows(task, self._drawn[task])
            self._step += 1
            self._drawn[task] += 1
            yield TaskBatch(task, rows)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, as JSON values."""
        return {"step": self._step, "drawn": dict(self._drawn), "of": self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where another sampler of the same tasks, batches and seed stood.

        Raises:
            ConfigError: If the other one was made otherwise.
        """
        mine, theirs = self._identity(), state["of"]
        differ = [key for key in mine if mine[key] != theirs.get(key)]
        if differ:
            said = "; ".join(f"{key} was {theirs.get(key)!r} and is {mine[key]!r}" for key in differ)
            raise ConfigError(f"TaskSampler: this is the state of another one: {said}")
        self._step, self._drawn = state["step"], dict(state["drawn"])

    def seek(self, step: int) -> None:
        """Stand behind the first ``step`` batches, whatever was handed out: what is loaded ahead was not trained on.

        Raises:
            ConfigError: If there are not so many.
        """
        if type(step) is not int or not 0 <= step <= len(self):
            raise ConfigError(f"TaskSampler: step is {step!r}; give a whole number from 0 to {len(self)}")
        self._step, self._drawn = step, dict.fromkeys(self.sizes, 0)
        for earlier in range(step):
            self._drawn[self._task_at(earlier)] += 1

    def _task_at(self, step: int) -> str:
        shares = self.mixing.probabilities(self.sizes, step // self.steps + 1, self.epochs)
        (task,) = random.Random(f"{self.seed}, step {step}").choices([*shares], [*shares.values()])
        return task

    def _rows(self, task: str, drawn: int) -> tuple[int, ...]:
        turn, batch = divmod(drawn, self._batches(task))
        if task not in self._order or self._order[task][0] != turn:
            order = [*range(self.sizes[task])]
            random.Random(f"{self.seed}, pass {turn} of {task}").shuffle(order)
            self._order[task] = turn, order
        size = self.batch_size[task]
        return tuple(self._order[task][1][batch * size : (batch + 1) * size])

    def _batches(self, task: str) -> int:
        """Batches of a pass over a task."""
        return -(-self.sizes[task] // self.batch_size[task])

    def _identity(self) -> dict[str, Any]:
        """What decides on what is drawn."""
        return {
            "sizes": self.sizes,
            "batch_size": self.batch_size,
            "mixing": dataclasses.asdict(self.mixing),
            "epochs": self.epochs,
            "steps": self.steps,
            "seed": self.seed,
        }


def _count(what: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"TaskSampler: {what} is {value!r}; it must be a whole number of 1 or more")
    return value
