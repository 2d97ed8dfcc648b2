"""Predictions for typed texts or for a file of rows, as JSON values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def predict(self, rows: Any, *, batch_size: int = 32) -> Sequence[Any]:
        """Return for each row a prediction, or one for each task."""


def answers(
    predictor: Answering,
    texts: Sequence[str] = (),
    file: str | Path | None = None,
    *,
    batch_size: int = 32,
    on_rows: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Predict the row of some typed texts, or every row of a file.

    Args:
        predictor: A `Predictor` of a task, or `Several` of them.
        texts: The texts of one row: a text, and a second one for pairs; for multiple choice the choices after it; a question
            and its context; words separated by spaces for tagging; the path of an image.
        file: A file of rows instead, in a format of a task's data; its rows are predicted in pieces.
        batch_size: How many rows are computed at once.
        on_rows: Called with the rows of the file that are done, and with all of them, after each piece and at the beginning.

    Yields:
        `Prediction.to_dict` of each row, for several tasks under the name of each; with ``"line"`` for rows of a file.

    Raises:
        TaskError: If both are given or none, or a row lacks something.
    """
    if bool(texts) == (file is not None):
        raise TaskError("give either texts or a file of rows to predict")
    if file is None:
        yield from (_as_dict(p) for p in predictor.predict(predictor.typed(texts), batch_size=batch_size))
        return
    rows = read_rows(file)
    predictor.check(rows)  # all of them, before the first prediction
    piece = max(_AT_ONCE, batch_size)
    for start in range(0, len(rows), piece):
        if on_rows is not None:
            on_rows(start, len(rows))
        some = rows[start : start + piece]
        for n, prediction in enumerate(predictor.predict(some, batch_size=batch_size)):
            yield {"line": some.place(n).line, **_as_dict(prediction)}
    if on_rows is not None:
        on_rows(len(rows), len(rows))


def as_csv(answers: Sequence[Mapping[str, Any]]) -> str:
    """Answers as CSV: the line of the file, the prediction, its probability, and of several tasks those of each.

    Probabilities of all labels, and what else a kind says, are in the lines of JSON alone.
    """
    table = []
    for answer in answers:
        row = {"line": answer["line"]} if "line" in answer else {}
        parts = {"": answer} if "value" in answer else {key: one for key, one in answer.items() if key != "line"}
        for task, one in parts.items():
            start, named = f"{task}." if task else "", one.get("probabilities") or {}
            row[f"{start}prediction"] = as_cell(one["value"])
            if isinstance(one["value"], (str, int)) and str(one["value"]) in named:
                row[f"{start}probability"] = named[str(one["value"])]
        table.append(row)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(dict.fromkeys(column for row in table for column in row)))
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def as_cell(value: Any) -> Any:
    """A value as a cell of CSV: what is no text or number as JSON."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _as_dict(answer: Prediction | dict[str, Prediction]) -> dict[str, Any]:
    if isinstance(answer, Prediction):
        return answer.to_dict()
    return {task: prediction.to_dict() for task, prediction in answer.items()}
