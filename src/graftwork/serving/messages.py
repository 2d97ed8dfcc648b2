"""What requests and answers have in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(min_length=1, max_length=200)]
Rows = Annotated[list[dict[str, Any]], Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1, max_length=256)]
Deadline = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PredictRequest(_Asked):
    """What is predicted.

    Attributes:
        task: The task.
        tasks: Several tasks instead: each predicts the same rows. Without a task the one that the texts belong to is found.
        rows: The rows, with the columns that the task reads.
        texts: The texts of one row instead, as they would be typed after `graftwork predict`.
        cut: Whether a text that is longer than what is read is cut off, as `graftwork predict` does, and not refused.
        deadline_ms: The milliseconds after which no answer is wanted.
        stream: Whether the answer is sent while it is written, for one row of a task that writes.
    """

    task: Name | None = None
    tasks: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    rows: Rows | None = None
    texts: Texts | None = None
    cut: bool = False
    deadline_ms: Deadline | None = None
    stream: bool = False

    @model_validator(mode="after")
    def _one_of_each(self) -> PredictRequest:
        if (self.rows is None) == (self.texts is None):
            raise ValueError("give either rows, a list of objects, or texts, those of one row")
        if self.task is not None and self.tasks is not None:
            raise ValueError("give either task or tasks")
        if self.tasks is not None and len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks has a name twice; give each once")
        if self.stream and (self.tasks is not None or len(self.rows or [{}]) != 1):
            raise ValueError("one row of one task can be streamed; leave stream out, or give one row")
        return self


class PredictAnswer(BaseModel):
    """What is predicted: for each row what `graftwork predict` prints, or ``{"error": ...}``.

    Attributes:
        task: The task, where there is one.
        predictions: A prediction for each row; of several tasks one under the name of each.
        scores: The score of each task, where the task was sought.
    """

    task: str | None = None
    predictions: list[dict[str, Any]]
    scores: dict[str, float] | None = None


class AttentionRequest(_Asked):
    """The row for which is asked where the fusion of a task looks, as in a `PredictRequest`."""

    task: Name
    row: dict[str, Any] | None = None
    texts: Texts | None = None

    @model_validator(mode="after")
    def _one(self) -> AttentionRequest:
        if (self.row is None) == (self.texts is None):
            raise ValueError("give either row, an object, or texts")
        return self


class AttentionAnswer(BaseModel):
    """Where a fusion looks.

    Attributes:
        tokens: The tokens.
        adapters: The adapters.
        sites: For each site the weights ``[token][adapter]``, which add up to 1 for each token.
    """

    tokens: list[str]
    adapters: list[str]
    sites: dict[str, list[list[float]]]


class TaskRequest(_Asked):
    """A task that is added.

    Attributes:
        folder: The folder of its adapter, relative to the store.
        task: The options of the task as in a recipe's ``[tasks.NAME]``; by default the kind that the adapter's head is of.
        base: The base, where there are several.
    """

    folder: Annotated[str, Field(min_length=1, max_length=1000)]
    task: dict[str, Any] | None = None
    base: str | None = None


class TaskAnswer(BaseModel):
    """A task that is served.

    Attributes:
        name: Its name.
        kind: Its kind.
        columns: The columns that a row must have.
        pair: The column of a second text that a row may have.
        labels: Its labels, where it has any.
        writes: Whether its answers are written, so that they can be streamed.
        fusion: The adapters that its fusion looks at, where it has one.
        mixed: Whether its rows share batches with those of other tasks.
        base: The name of its base.
        source: The name of the folder that it was read from; no path, as anyone may ask.
    """

    name: str
    kind: str
    columns: list[str]
    pair: str | None = None
    labels: list[str]
    writes: bool
    fusion: list[str] | None = None
    mixed: bool
    base: str
    source: str


class Refusal(BaseModel):
    """Why a request is refused.

    Attributes:
        error: The reason and the way out.
        near: For an unknown task names that are spelt alike.
    """

    error: str
    near: list[str] | None = None
