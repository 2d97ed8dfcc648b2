"""The shape of a run's ``evidence.json``, and its bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from graftwork.experiments.running.records import Count, Gap, Metrics, Number, Seed, Shape

MOST_LABELS = 30  # of a confusion
MOST_CHANGED, MOST_TEXT = 12, 400  # rows that became right, and that became wrong; characters of one
ShortText = Annotated[str, Field(max_length=MOST_TEXT)]


class LineEvidence(Shape):
    """How sure a line's score is, and the difference of the line that a report is about from it."""

    line: str
    low: Number | None
    high: Number | None
    against: Gap | None


class Change(Shape):
    """A row whose answer became right or wrong."""

    row: Count
    text: ShortText
    gold: ShortText
    before: ShortText
    after: ShortText
    better: bool


class TargetEvidence(Shape):
    """What the predictions for a target say of ``subject``, the line that a report is about, and ``control``.

    ``by_seed`` has the difference of their scores for each of the ``seeds`` that both were scored with.
    """

    task: str
    metric: str
    scored_on: str
    rows_scored: Count
    folds: Count
    draws: Count
    subject: str
    control: str | None
    seeds: list[Seed]
    by_seed: list[Number]
    lines: list[LineEvidence]
    labels: list[str] = Field(default_factory=list, max_length=MOST_LABELS)
    confusion: dict[str, list[list[Count]]] = Field(default_factory=dict)
    gained: Count | None = None
    lost: Count | None = None
    changed: list[Change] = Field(default_factory=list, max_length=2 * MOST_CHANGED)

    @model_validator(mode="after")
    def _square(self) -> TargetEvidence:
        if self.control is not None and len(self.by_seed) != len(self.seeds):
            raise ValueError("a seed has a difference")
        size = len(self.labels)
        if any([len(row) for row in rows] != [size] * size for rows in self.confusion.values()):
            raise ValueError("a confusion has a row and a column for each label")
        return self


class Evidence(Shape):
    """A run's ``evidence.json``; ``units`` has the scores that it is of."""

    format: Literal[1]
    units: Metrics
    targets: list[TargetEvidence]
