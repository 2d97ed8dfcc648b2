"""Which task each batch is of when several are trained at once: the probabilities, and the rows.

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
        temperature: T of ``"temperature"``: 1 is proportional, and the larger it is, the nearer to uniform.
        fall: How far α falls from 1 to the last epoch, if ``"annealed"``.

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
        """α in an epoch, counted from 1."""
        if self.kind == "annealed":
            return 1.0 - self.fall * (epoch - 1) / (epochs - 1) if epochs > 1 else 1.0
        return {"proportional": 1.0, "uniform": 0.0, "temperature": 1.0 / self.temperature}[self.kind]

    def probabilities(self, sizes: Mapping[str, int], epoch: int = 1, epochs: int = 1) -> dict[str, float]:
        """The probability of each task.

        Args:
            sizes: The number of rows of each task.
            epoch: The epoch, counted from 1.
            epochs: The number of epochs.
        """
        exponent, most = self.exponent(epoch, epochs), max(sizes.values())
        shares = {task: (size / most) ** exponent for task, size in sizes.items()}
        total = math.fsum(shares.values())
        return {task: share / total for task, share in shares.items()}


class TaskBatch(NamedTuple):
    """The rows of one batch.

    Attributes:
        task: The task that they are of.
        rows: Their numbers in the task.
    """

    task: str
    rows: tuple[int, ...]


class TaskSampler:
    """Batches of several tasks, one task a batch; what is drawn depends on the seed and the step alone.

    The rows of a task come in passes: every row once a pass, in another order each pass; the last batch of a pass may be
    smaller. Iterating continues after the batch that was given last, also after `load_state_dict`.

    Args:
        sizes: The number of rows of each task.
        batch_size: Rows a batch; one number for all tasks, or one for each.
        mixing: How often each task is drawn.
        epochs: The number of epochs, for annealing.
        steps: Batches an epoch; by default as many as there are in one pass over every task.
        seed: Seed of everything that is drawn.

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
        by_task = batch_size if isinstance(batch_size, Mapping) else dict.fromkeys(sizes, batch_size)
        if set(by_task) != set(sizes):
            raise ConfigError(
                f"TaskSampler: batch_size is for {list(by_task)}, and the tasks are {list(sizes)}; give each one"
            )
        self.batch_size = {task: _count(f"batch_size[{task!r}]", by_task[task]) for task in sizes}
        self.mixing = TaskMixing() if mixing is None else mixing
        self.epochs = _count("epochs", epochs)
        once = sum(self._batches(task) for task in sizes)
        self.steps = _count("steps", once if steps is None else steps)
        self.seed = seed
        self._step = 0
        self._drawn = dict.fromkeys(self.sizes, 0)
        self._order: dict[str, tuple[int, list[int]]] = {}

    def __len__(self) -> int:
        """The number of batches in all epochs."""
        return self.epochs * self.steps

    def __iter__(self) -> Iterator[TaskBatch]:
        while self._step < len(self):
            task = self._task_at(self._step)
            rows = self._rows(task, self._drawn[task])
            self._step += 1
            self._drawn[task] += 1
            yield TaskBatch(task, rows)

    def state_dict(self) -> dict[str, Any]:
        """How far it is, as JSON values."""
        return {"step": self._step, "drawn": dict(self._drawn), "of": self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where another sampler of the same tasks, batches and seed was.

        Args:
            state: What its `state_dict` returned.

        Raises:
            ConfigError: If the other sampler had other arguments.
        """
        now, saved = self._identity(), state["of"]
        differ = [f"{key} was {saved.get(key)!r} and is {now[key]!r}" for key in now if now[key] != saved.get(key)]
        if differ:
            raise ConfigError(f"TaskSampler: this is the state of another one: {'; '.join(differ)}")
        self._step, self._drawn = state["step"], dict(state["drawn"])

    def seek(self, step: int) -> None:
        """Continue after the first ``step`` batches, however many were given: some may have been loaded ahead.

        Raises:
            ConfigError: If there are fewer.
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
        """The number of batches of a pass over a task."""
        return -(-self.sizes[task] // self.batch_size[task])

    def _identity(self) -> dict[str, Any]:
        """The arguments that decide what is drawn."""
        arguments = {key: getattr(self, key) for key in ("sizes", "batch_size", "mixing", "epochs", "steps", "seed")}
        return {**arguments, "mixing": dataclasses.asdict(self.mixing)}


def _count(what: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"TaskSampler: {what} is {value!r}; it must be a whole number of 1 or more")
    return value
