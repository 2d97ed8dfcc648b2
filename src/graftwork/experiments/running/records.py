"""The JSON files of a run, typed: a file of another shape is refused in a sentence before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import UNIT_KINDS

# Bounds that no real figure reaches; beyond them sums, logarithms and pictures fail.
Count = Annotated[int, Field(ge=0, le=10**15)]
Weights = Annotated[int, Field(ge=0, le=10**15)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=-(10**15), le=10**15)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2)]
Metrics = dict[str, Number]
MOST_EXAMPLES, MOST_TOKENS = 4, 64  # rows whose tokens are kept with what a fusion looks at, and tokens of one


def _known_kind(kind: str) -> str:
    if kind not in UNIT_KINDS:
        raise ValueError(f"{kind!r} is no kind of training")
    return kind


Kind = Annotated[str, AfterValidator(_known_kind)]


class Shape(BaseModel):
    """A JSON object with these keys; it may have others."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _OfAKind(Shape):
    kind: Kind
    method: str = ""

    @model_validator(mode="after")
    def _named(self) -> _OfAKind:
        if self.kind == "method" and not self.method:
            raise ValueError("a method has a name")
        return self


class Timings(Shape):
    """The time of a training, and of an answer of it."""

    train_seconds: Number
    milliseconds_a_row: Number


class Decided(Shape):
    """How probabilities become predictions, as it was fitted on the dev rows."""

    temperature: Annotated[float, Field(gt=0, le=1000)]
    threshold: Share | None


class TaskScores(Shape):
    """A task's part of a result."""

    labels: list[str]
    decision: Decided | None = None
    metric: str
    score: Number
    scored_on: str
    scores: dict[str, Metrics]


class Curves(Shape):
    """The curves of a training."""

    loss: list[Point]
    score: Annotated[list[Point], Field(min_length=1)]
    tasks: dict[str, list[Point]] = {}


class Example(Shape):
    """The tokens of a row, each with a weight for each adapter of a fusion."""

    tokens: Annotated[list[str], Field(max_length=MOST_TOKENS)]
    weights: list[list[Share]]


class Attention(Shape):
    """The attention of a fusion: a weight for each adapter by site, and by token of some rows."""

    adapters: list[str]
    sites: dict[str, list[Number]]
    examples: Annotated[list[Example], Field(max_length=MOST_EXAMPLES)] = []

    @model_validator(mode="after")
    def _one_each(self) -> Attention:
        if any(len(weights) != len(self.adapters) for weights in self.sites.values()):
            raise ValueError("a site has a weight for each adapter")
        for one in self.examples:
            if [len(weights) for weights in one.weights] != [len(self.adapters)] * len(one.tokens):
                raise ValueError("a token has a weight for each adapter")
        return self


class Ranks(Shape):
    """How well some objects are known."""

    count: Count
    accuracy: Number
    mean_reciprocal_rank: Number


class Cloze(Shape):
    """How well an adapter of knowledge knows one part of its triples."""

    before: Ranks
    after: Ranks
    commonest: Number


Clozes = dict[Literal["told", "held_out"], Cloze]


class Steps(Shape):
    """The scores of a sequence of tasks: for each step those of all tasks so far."""

    order: list[str]
    scores: list[list[Number]]
    average_forgetting: Number | None
    backward_transfer: Number | None

    @model_validator(mode="after")
    def _triangle(self) -> Steps:
        if not self.order or [len(row) for row in self.scores] != list(range(1, len(self.order) + 1)):
            raise ValueError(f"{len(self.order)} tasks have rows of 1 to {len(self.order)} scores")
        return self


class UnitResult(_OfAKind):
    """A unit's ``result.json``."""

    unit: str
    task: str
    seed: Seed
    members: list[str]
    under: list[str] = []
    metric: str
    score: Number
    scored_on: str
    labels: list[str] = []
    scores: dict[str, Metrics] = {}
    epochs: Count
    best_epoch: Count
    steps: Count
    curves: Curves
    trained_weights: Weights
    file_bytes: Count
    timings: Timings
    together: list[str] = []
    decision: Decided | None = None
    attention: Attention | None = None
    cloze: Clozes = {}
    language: str | None = None
    elsewhere: dict[str, Metrics] = {}
    tasks: dict[str, TaskScores] = {}
    sequence: Steps | None = None

    @model_validator(mode="after")
    def _whole(self) -> UnitResult:
        kind, curves = UNIT_KINDS[self.kind], self.curves
        if not 1 <= self.best_epoch <= len(curves.score):
            raise ValueError(f"best_epoch is {self.best_epoch} and the curve has {len(curves.score)} scores")
        if any(self.metric not in scores for scores in self.elsewhere.values()):
            raise ValueError(f"elsewhere has no {self.metric}")
        if kind.of_all != bool(self.tasks) or (kind.trained_on == "sequence") != (self.sequence is not None):
            raise ValueError(f"tasks and sequence are not those of {self.kind}")
        if kind.trained_on == "all" and (
            curves.tasks.keys() != self.tasks.keys() or any(len(c) < self.best_epoch for c in curves.tasks.values())
        ):
            raise ValueError("curves.tasks has not a curve for each task")
        if self.sequence is not None and sorted(self.sequence.order) != sorted(self.tasks):
            raise ValueError("sequence.order and tasks differ")
        if self.kind == "knowledge" and not self.cloze:
            raise ValueError("cloze has to be given")
        return self


class _Row(_OfAKind):
    members: list[str]
    mean: Number
    sd: Number | None
    seeds: list[Seed]
    trained_weights: Weights
    file_bytes: Count


class ResultsRow(_Row):
    """A row of a table of ``results.json``."""

    task: str
    metric: str
    scored_on: str
    timings: Timings


class Failed(Shape):
    """A training that failed or was left out, and why."""

    unit: str
    why: str


class Results(Shape):
    """A run's ``results.json``."""

    format: Literal[1]
    complete: bool
    targets: list[ResultsRow]
    sources: list[ResultsRow] = []
    languages: list[ResultsRow] = []
    knowledge: list[ResultsRow] = []
    units: list[UnitResult] = []
    failed: list[Failed] = []


class Gap(Shape):
    """The difference of two lines of a comparison."""

    value: Number
    low: Number
    high: Number
    p: Share
    draws: Count
    clear: bool


class Line(_Row):
    """A line of a comparison, on one target or in the mean."""

    line: str
    weights_a_task: Weights
    share: Number
    against_full: Gap | None
    best_other: str | None
    against_best: Gap | None


class Target(Shape):
    """A target of a comparison."""

    task: str
    metric: str
    scored_on: str
    rows_scored: Count
    draws: Count
    rows: Annotated[list[Line], Field(min_length=1)]


class Batch(Shape):
    """The batch that costs are measured with."""

    task: str
    rows: Count
    length: Count
    bf16: bool
    gradient_checkpointing: bool
    device: str
    rounds: Count


class Cost(Shape):
    """The costs of a step and of an answer."""

    train_seconds: Number
    inference_seconds: Number
    train_ratio: Number
    inference_ratio: Number
    train_bytes: Count
    inference_bytes: Count
    train_memory_ratio: Number | None = None
    inference_memory_ratio: Number | None = None


class Costs(Shape):
    """A comparison's ``costs.json``."""

    batch: Batch
    lines: dict[str, Cost]


class Comparison(Shape):
    """A comparison's ``comparison.json``."""

    format: Literal[1]
    seeds: list[Seed]
    targets: Annotated[list[Target], Field(min_length=1)]
    mean: list[Line]
    costs: Costs | None


def read_record(path: Path, shape: Any, way_out: str = "delete it, and the command that made it makes it again") -> Any:
    """The content of a file as plain JSON values of a shape.

    Args:
        path: The file.
        shape: A `Shape`, or another type that pydantic knows; ``Any`` takes all JSON.
        way_out: What the user can do if it is damaged.

    Raises:
        RecipeError: If it cannot be read, is no JSON, or has another shape.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        TypeAdapter(shape).validate_python(data)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{key}." for key in first["loc"])[:-1]
        why = first["msg"].removeprefix("Value error, ")
        raise damaged(path, f"{where}: {why}" if where else why, way_out) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error), way_out) from error
    return data


def damaged(path: Path, why: str, way_out: str) -> RecipeError:
    """The error for a file of a run that cannot be used."""
    return RecipeError(f"{path} is damaged ({why}); {way_out}")
