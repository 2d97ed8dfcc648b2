"""The user's needs, and the figures of runs of `graftwork run` or `graftwork compare`, as evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from graftwork.errors import ConfigError
from graftwork.experiments.running.folder import recipe_of
from graftwork.experiments.running.results import read_results
from graftwork.options import is_number
from graftwork.report.formatting import kind_label, named_score, score
from graftwork.report.recommending.base import CANDIDATES

# Kinds that show where a fusion's gain comes from: they are compared with it and never recommended.
CONTROLS = ("own", "copies")
_SAME = {"mt_shared": "together", "skip_bottleneck": "bottleneck"}  # names in a run that differ from the candidate's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method is chosen for: a target among the tasks, related sources, all with training rows; and limits.

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
            tasks = f"the tasks are {', '.join(self.tasks)}" if self.tasks else "there are no tasks"
            raise ConfigError(f"the target {self.target!r} is no task; {tasks}")
        for name, rows in {**self.sources, **self.tasks}.items():
            if not is_number(rows) or rows != int(rows) or rows < 1:
                raise ConfigError(f"{name!r} has {rows!r} training rows; give a whole number of 1 or more")
        if self.target in self.sources:
            raise ConfigError(f"{self.target!r} is the target, and cannot be a source for itself; leave it out")
        ratio = "a ratio to the bare model's, of 1 or more, such as 1.1"
        weights = ("weights a task are", self.weights_a_task, "a number of 1 or more")
        for what, limit, wanted in (weights, ("latency is", self.latency, ratio)):
            if limit is not None and (not is_number(limit) or limit < 1):
                raise ConfigError(f"the {what} limited to {limit!r}; give {wanted}")

    @property
    def rows(self) -> int:
        """The number of training rows of the target."""
        return self.tasks[self.target]

    @property
    def larger(self) -> tuple[str, ...]:
        """The sources with more rows than the target."""
        return tuple(name for name, rows in self.sources.items() if rows > self.rows)

    @property
    def pool(self) -> int:
        """The number of adapters of a fusion: the target's own and those of its sources."""
        return 1 + len(self.sources)

    @property
    def many(self) -> int:
        """The number of tasks that can be trained together, with the sources."""
        return len({**self.tasks, **self.sources})


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a reason rests on: its sort, its source, what it says beyond the reason, and whether it may change a rank."""

    basis: str
    source: str = ""
    says: str = ""
    sure: bool = True

    def __str__(self) -> str:
        where = f"[{self.basis}: {self.source}]" if self.source else f"[{self.basis}]"
        return f"{self.says} {where}" if self.says else where


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of a run's results, for one method over its seeds; ``sd`` is that of the sample, ``None`` for one seed."""

    method: str
    label: str
    task: str
    mean: float
    sd: float | None
    seeds: int
    metric: str
    scored_on: str
    weights: int
    milliseconds: float | None
    run: str
    base: str

    @property
    def evidence(self) -> Evidence:
        """The figure as evidence."""
        spread = "" if self.sd is None else f" ± {score(self.sd, self.metric)}"
        says = f"{self.task}: {named_score(self.mean, self.metric)}{spread}, {self.weights:,d} weights trained"
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        return Evidence("measured here", f"run {self.run}, base {self.base}, {seeds}", says)

    def clearly_above(self, other: Figure) -> bool:
        """Whether the mean less its standard deviation is above the other's plus its own; never for one seed."""
        return self.sd is not None and other.sd is not None and self.mean - self.sd > other.mean + other.sd


def read_figures(run: str | Path) -> tuple[Figure, ...]:
    """The figures of the targets of a run, from its folder.

    Raises:
        RecipeError: If the folder is not a run's, has no results yet, or they are damaged.
    """
    recipe, results = recipe_of(Path(run)), read_results(run)
    labels = {candidate.key: candidate.label for candidate in CANDIDATES}
    found: dict[tuple[str, str], Figure] = {}
    for row in results["targets"]:
        kind, number = str(row["kind"]), 1
        name = str(recipe.adapter["method"] if kind == "adapter" else row.get("method") or kind)
        name = method = _SAME.get(name, name)
        label = labels.get(name) or (kind_label(name, len(row.get("members", ()))) if name == kind else name)
        while (row["task"], method) in found:  # the same method with other options
            number += 1
            method = f"{name} #{number}"
        found[row["task"], method] = Figure(
            method=method,
            label=label + method.removeprefix(name),
            **{key: row[key] for key in ("task", "mean", "sd", "metric", "scored_on")},
            seeds=len(row["seeds"]),
            weights=row["trained_weights"],
            milliseconds=row["timings"]["milliseconds_a_row"],
            run=str(run),
            base=recipe.base.model,
        )
    return tuple(found.values())
