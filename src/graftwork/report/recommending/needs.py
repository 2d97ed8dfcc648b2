"""What a user has and needs: tasks with their training rows, and what the choice is bound by."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from graftwork.errors import ConfigError
from graftwork.options import is_number

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_BYTES_A_WEIGHT = 4  # files are float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What the choice is made for.

    Attributes:
        target: The task that is to be served best.
        tasks: Training rows of every task that is to be served, the target's among them.
        sources: Training rows of related tasks at hand, whose adapters may be fused or learnt from.
        changing: Whether tasks come and go at run time.
        keep_base: Whether the base's own weights may not be changed.
        keep_old: Whether tasks that were learnt must stay exactly what they are when another one is learnt.
        weights_a_task: How many weights a task may take at most, heads aside.
        latency: The time of inference that is allowed, as a ratio to the bare model's.
        kind: The kind of the target, one of `graftwork.tasks.kinds`, where it is known.

    Raises:
        ConfigError: If a value cannot be used.
    """

    target: str
    tasks: Mapping[str, int]
    sources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    changing: bool = False
    keep_base: bool = False
    keep_old: bool = False
    weights_a_task: int | None = None
    latency: float | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        if self.target not in self.tasks:
            known = f"the tasks are {', '.join(self.tasks)}" if self.tasks else "there are no tasks"
            raise ConfigError(f"the target {self.target!r} is no task; {known}")
        for name, rows in {**self.sources, **self.tasks}.items():
            if not is_number(rows) or rows != int(rows) or rows < 1:
                raise ConfigError(f"{name!r} has {rows!r} training rows; give a whole number of 1 or more")
        if self.target in self.sources:
            raise ConfigError(f"{self.target!r} is the target, and cannot be a source for itself; leave it out")
        if self.weights_a_task is not None and (not is_number(self.weights_a_task) or self.weights_a_task < 1):
            raise ConfigError(f"the weights a task are limited to {self.weights_a_task!r}; give a number of 1 or more")
        if self.latency is not None and (not is_number(self.latency) or self.latency < 1):
            raise ConfigError(
                f"the latency is limited to {self.latency!r}; give a ratio to the bare model's, of 1 or more, such as 1.1"
            )

    @property
    def rows(self) -> int:
        """Training rows of the target."""
        return self.tasks[self.target]

    @property
    def larger(self) -> tuple[str, ...]:
        """The sources that have more rows than the target."""
        return tuple(name for name, rows in self.sources.items() if rows > self.rows)

    @property
    def pool(self) -> int:
        """How many adapters a fusion would be of: the target's own and those of its sources."""
        return 1 + len(self.sources)

    @property
    def many(self) -> int:
        """How many tasks there are to learn from together: those that are served, and the sources."""
        return len({**self.tasks, **self.sources})


def rows_of(given: Iterable[str], option: str, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Training rows by task, from ``name=number``, or a name alone whose rows are known.

    Raises:
        ConfigError: Naming what cannot be read.
    """
    found: dict[str, int] = {}
    for one in given:
        before, equals, after = one.rpartition("=")
        name, number = (before.strip(), after.strip()) if equals else (after.strip(), "")
        if name in found:
            raise ConfigError(f"{option} {one}: {name!r} is given twice; give it once")
        if not equals and known is not None and name in known:
            found[name] = known[name]
            continue
        rows = number.replace("_", "").replace(",", "")
        if not name or not rows.isascii() or not rows.isdigit():
            raise ConfigError(f"{option} {one!r} cannot be read; give a name and its training rows, such as rte=2490")
        found[name] = int(rows)
    return found


def weights_of(given: str) -> int:
    """A limit of weights: a number (``1M``, ``800k``), or the bytes of a file of float32 weights (``4MB``).

    Raises:
        ConfigError: If it is neither.
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(b?)", given.strip().replace("_", "").replace(",", ""), re.I)
    count = 0.0 if read is None else float(read[1]) * _UNITS[read[2].lower()]
    if read is not None and read[3]:
        count /= _BYTES_A_WEIGHT
    if count < 1:
        raise ConfigError(f"--weights {given!r} cannot be read; give a number such as 1M or 800k, or bytes such as 4MB")
    return int(count)
