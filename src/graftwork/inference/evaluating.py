"""How good the predictions for labelled rows are: metrics, each label, calibration, and the rows that are wrong."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

from graftwork.inference.predictor import Predictor
from graftwork.inference.requests import as_cell
from graftwork.options import needed
from graftwork.tasks import Kind, Prediction, Rows
from graftwork.tasks.scoring.answers import ANSWER, exact_match
from graftwork.tasks.scoring.by_label import LabelScore, by_label, confusion
from graftwork.tasks.scoring.calibration import Calibration, calibration
from graftwork.tasks.scoring.labels import CHOICE, LABEL, LABEL_SET
from graftwork.tasks.scoring.numbers import NUMBER
from graftwork.tasks.scoring.texts import TEXT
from graftwork.tasks.scoring.tokens import TAGS
from graftwork.training.outputs import number


@dataclasses.dataclass(frozen=True)
class Wrong:
    """A row that is not predicted right.

    Attributes:
        place: Where it came from.
        inputs: What was read of it, by column.
        predicted: The prediction.
        right: What is right.
        probability: How sure the model was, where it says; of a number, how far it is off.
    """

    place: str
    inputs: dict[str, Any]
    predicted: Any
    right: Any
    probability: float | None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How good some predictions are; what makes no sense for the task's kind is ``None``.

    Attributes:
        task: The task.
        unit: The unit that predicted.
        form: The form of the values: ``"labels"``, ``"numbers"``, ``"texts"``, ...
        rows: How many rows were predicted.
        metrics: The task's metrics, the main one first.
        labels: The scores of each label; of tags, of each tag of a word.
        entities: The scores of each type of entity, where tags are of entities.
        confusion: How many rows of each right label are predicted as each; in the order of ``labels``.
        calibration: Whether the probabilities can be relied on.
        residuals: Of numbers: the mean absolute error, the root of the mean squared error, and the mean error.
        wrong: The rows that are wrong, those first that the model was surest of; of numbers all rows, the farthest off first.
    """

    task: str
    unit: str
    form: str
    rows: int
    metrics: dict[str, float]
    labels: list[LabelScore] | None = None
    entities: list[LabelScore] | None = None
    confusion: list[list[int]] | None = None
    calibration: Calibration | None = None
    residuals: dict[str, float] | None = None
    wrong: Sequence[Wrong] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values; of the wrong rows their number."""
        found = dataclasses.asdict(dataclasses.replace(self, wrong=()))
        found["wrong"] = None if self.form == NUMBER else len(self.wrong)
        return {key: value for key, value in found.items() if value is not None}

    def errors_csv(self) -> str:
        """The wrong rows as CSV."""
        columns = list(dict.fromkeys(column for one in self.wrong for column in one.inputs))
        last = "error" if self.form == NUMBER else "probability"
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(["place", *columns, "predicted", "right", last])
        for one in self.wrong:
            cells = [*(one.inputs.get(column) for column in columns), one.predicted, one.right, one.probability]
            writer.writerow([one.place, *(as_cell(cell) for cell in cells)])
        return out.getvalue()


def evaluate(predictor: Predictor, rows: Rows, *, batch_size: int = 32) -> Evaluation:
    """Predict labelled rows, and say how good that is.

    Args:
        predictor: What predicts.
        rows: The rows, each with its right answer.
        batch_size: How many rows are in a batch.

    Raises:
        TaskError: If a row lacks a column or its answer, or has a label that the task does not know.
    """
    kind = predictor.kind
    kind.check(rows, answered=True)
    predictions = predictor.predict(rows, batch_size=batch_size)
    metrics = {name: number(value) for name, value in kind.score(predictions, rows).items()}
    predicted, gold = kind.pairs(predictions, rows)
    found: dict[str, Any] = {}
    if kind.form == LABEL:
        found = {"labels": by_label(predicted, gold, kind.labels), "confusion": confusion(predicted, gold, kind.labels)}
    elif kind.form == LABEL_SET:
        found = {"labels": by_label(predicted, gold, kind.labels)}
    elif kind.form == TAGS:
        said, right = ([tag for row in side for tag in row] for side in (predicted, gold))
        found = {"labels": by_label(said, right, kind.labels), "entities": _entities(predicted, gold, kind.labels)}
    elif kind.form == NUMBER:
        off = [p - g for p, g in zip(predicted, gold, strict=True)]
        found["residuals"] = {
            "mean_absolute_error": sum(map(abs, off)) / len(off),
            "root_mean_squared_error": math.sqrt(sum(one * one for one in off) / len(off)),
            "mean_error": sum(off) / len(off),
        }
    found["calibration"] = _calibration(kind, predictions, gold)
    wrong = _wrong(kind, predictions, predicted, gold, rows)
    return Evaluation(predictor.task, predictor.unit.id, kind.form, len(rows), metrics, wrong=wrong, **found)


def _entities(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> list[LabelScore] | None:
    """The scores of each type of entity, as conlleval counts them; ``None`` where tags are of words alone."""
    if not any(label.startswith(("B-", "I-")) for label in labels):
        return None
    seqeval = needed("seqeval.metrics.sequence_labeling", "the scores of each type of entity")
    sides = [[list(tags) for tags in side] for side in (gold, predicted)]
    entities = [seqeval.get_entities(side) for side in sides]
    types = sorted({one[0] for side in entities for one in side})
    if not types:
        return []
    scores = seqeval.precision_recall_fscore_support(*sides, average=None, zero_division=0)
    counts = [[sum(one[0] == name for one in side) for name in types] for side in entities]
    return [
        LabelScore(name, float(scores[0][n]), float(scores[1][n]), float(scores[2][n]), counts[0][n], counts[1][n])
        for n, name in enumerate(types)
    ]


def _calibration(kind: Kind, predictions: Sequence[Prediction], gold: Sequence[Any]) -> Calibration | None:
    """The calibration of what was chosen; where several labels may hold, of the yes or no to each."""
    chances = [one.probabilities for one in predictions]
    if kind.form not in (LABEL, LABEL_SET, CHOICE) or any(one is None for one in chances):
        return None
    said, right = [], []
    for prediction, answer in zip(predictions, gold, strict=True):
        named = prediction.probabilities or {}
        if kind.form == LABEL_SET:
            said += [max(chance, 1 - chance) for chance in named.values()]
            right += [(chance > 0.5) == (name in answer) for name, chance in named.items()]
        else:
            best = max(named, key=lambda name: named[name])
            said.append(named[best])
            right.append(best == str(answer))
    return calibration(said, right)


def _wrong(
    kind: Kind, predictions: Sequence[Prediction], predicted: Sequence[Any], gold: Sequence[Any], rows: Rows
) -> list[Wrong]:
    found = []
    if kind.form not in (LABEL, LABEL_SET, CHOICE, TAGS, NUMBER, TEXT, ANSWER):
        return []
    roles = (*kind.reads, *(("pair",) if "pair" in kind.options else ()))
    columns = [column for role in roles if isinstance(column := getattr(kind.spec, role), str)]
    for n, (prediction, value, answer) in enumerate(zip(predictions, predicted, gold, strict=True)):
        if kind.form == NUMBER or not _is_right(kind, value, answer):
            inputs = {column: rows[n][column] for column in columns if column in rows[n]}
            sure = value - answer if kind.form == NUMBER else _sureness(kind, prediction, value, answer)
            found.append(Wrong(str(rows.place(n)), inputs, value, answer, sure))
    return sorted(found, key=lambda one: -abs(one.probability or 0.0))


def _is_right(kind: Kind, value: Any, answer: Any) -> bool:
    if kind.form in (TEXT, ANSWER):
        return exact_match([value], [answer], ()) == 1.0
    if kind.form == LABEL_SET:
        return set(value) == set(answer)
    return bool(list(value) == list(answer) if kind.form == TAGS else value == answer)


def _sureness(kind: Kind, prediction: Prediction, value: Any, answer: Any) -> float | None:
    """How sure the model was of a wrong prediction; of several decisions, of the one of which it was surest."""
    named = prediction.probabilities
    if kind.form == TAGS:
        chances = prediction.extra.get("probability", ())
        wrong = [c for c, p, g in zip(chances, value, answer, strict=False) if p != g and c is not None]
        return max(wrong, default=None)
    if kind.form == LABEL_SET and named is not None:
        return max(c if name in value else 1 - c for name, c in named.items() if (name in value) != (name in answer))
    if named is not None:
        return named.get(str(value))
    best = next(iter(prediction.extra.get("nbest", ())), None)
    return best.get("probability") if isinstance(best, dict) else None
