"""Asking a run: texts as they are typed, or a file of rows, and an answer for each as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks import Rows, read_rows
from graftwork.training.predicting import Predictor

_AT_ONCE = 512


def answers(
    predictor: Predictor, texts: Sequence[str] = (), file: str | Path | None = None
) -> Iterator[dict[str, Any]]:
    """A prediction for the row that some texts are, or for every row of a file.

    Args:
        predictor: A task of a run.
        texts: What one types: the text, and a second one for pairs; for multiple choice the choices behind it; a question
            and its context; words with spaces for tagging; the path of an image.
        file: A file of rows instead, as a task's data may be one; read and answered piece by piece.

    Yields:
        What `Prediction.to_dict` says, with ``"line"`` for rows of a file.

    Raises:
        TaskError: If both are given or none, or a row lacks something.
    """
    if bool(texts) == (file is not None):
        raise TaskError("give either texts or a file of rows to predict")
    if file is None:
        row = predictor.kind.typed(texts)
        yield from (p.to_dict() for p in predictor.predict(Rows([row], source="the texts given")))
        return
    rows = read_rows(file)
    predictor.kind.check(rows, answered=False)  # all of them, before the first answer is out
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for n, prediction in enumerate(predictor.predict(some)):
            yield {"line": some.place(n).line, **prediction.to_dict()}
