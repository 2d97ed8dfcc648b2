"""Asking a run: texts as they are typed, or a file of rows, and an answer for each as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from graftwork.errors import TaskError
from graftwork.tasks import Prediction, Rows, read_rows

_AT_ONCE = 512


class Answering(Protocol):
    """What can be asked: one task of a run, or several."""

    def typed(self, texts: Sequence[str]) -> Any:
        """The row that some texts are."""

    def check(self, rows: Rows) -> None:
        """Refuse rows that cannot be predicted."""

    def predict(self, rows: Any) -> Sequence[Any]:
        """A prediction for each row, or one a task."""


def answers(
    predictor: Answering, texts: Sequence[str] = (), file: str | Path | None = None
) -> Iterator[dict[str, Any]]:
    """A prediction for the row that some texts are, or for every row of a file.

    Args:
        predictor: A `Predictor` of a task, or `Several` of them.
        texts: What one types: the text, and a second one for pairs; for multiple choice the choices behind it; a question
            and its context; words with spaces for tagging; the path of an image.
        file: A file of rows instead, as a task's data may be one; read and answered piece by piece.

    Yields:
        What `Prediction.to_dict` says, for several tasks under the name of each; with ``"line"`` for rows of a file.

    Raises:
        TaskError: If both are given or none, or a row lacks something.
    """
    if bool(texts) == (file is not None):
        raise TaskError("give either texts or a file of rows to predict")
    if file is None:
        yield from (_said(p) for p in predictor.predict(predictor.typed(texts)))
        return
    rows = read_rows(file)
    predictor.check(rows)  # all of them, before the first answer is out
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for n, prediction in enumerate(predictor.predict(some)):
            yield {"line": some.place(n).line, **_said(prediction)}


def _said(answer: Prediction | dict[str, Prediction]) -> dict[str, Any]:
    if isinstance(answer, Prediction):
        return answer.to_dict()
    return {task: prediction.to_dict() for task, prediction in answer.items()}
