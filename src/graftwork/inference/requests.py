"""Predictions for typed texts or for a file of rows, as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from graftwork.errors import TaskError
from graftwork.tasks import Prediction, Rows, read_rows

_AT_ONCE = 512  # rows of a file that are predicted together


class Answering(Protocol):
    """A predictor of one task of a run, or of several."""

    def typed(self, texts: Sequence[str]) -> Any:
        """Return the row of some typed texts."""

    def check(self, rows: Rows) -> None:
        """Refuse rows that cannot be predicted."""

    def predict(self, rows: Any) -> Sequence[Any]:
        """Return for each row a prediction, or one for each task."""


def answers(
    predictor: Answering, texts: Sequence[str] = (), file: str | Path | None = None
) -> Iterator[dict[str, Any]]:
    """Predict the row of some typed texts, or every row of a file.

    Args:
        predictor: A `Predictor` of a task, or `Several` of them.
        texts: The texts of one row: a text, and a second one for pairs; for multiple choice the choices after it; a question
            and its context; words separated by spaces for tagging; the path of an image.
        file: A file of rows instead, in a format of a task's data; its rows are predicted in pieces.

    Yields:
        `Prediction.to_dict` of each row, for several tasks under the name of each; with ``"line"`` for rows of a file.

    Raises:
        TaskError: If both are given or none, or a row lacks something.
    """
    if bool(texts) == (file is not None):
        raise TaskError("give either texts or a file of rows to predict")
    if file is None:
        yield from (_as_dict(p) for p in predictor.predict(predictor.typed(texts)))
        return
    rows = read_rows(file)
    predictor.check(rows)  # all of them, before the first prediction
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for n, prediction in enumerate(predictor.predict(some)):
            yield {"line": some.place(n).line, **_as_dict(prediction)}


def _as_dict(answer: Prediction | dict[str, Prediction]) -> dict[str, Any]:
    if isinstance(answer, Prediction):
        return answer.to_dict()
    return {task: prediction.to_dict() for task, prediction in answer.items()}
