"""The tables of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from graftwork.inference.evaluating import Evaluation
from graftwork.report.formatting import metric_label, score
from graftwork.report.table import Table
from graftwork.tasks.scoring.by_label import LabelScore
from graftwork.tasks.survey import percent

_MOST, _WRONG, _LONG = 20, 5, 60


def evaluation_tables(found: Evaluation) -> list[Table]:
    """Tables of what an evaluation has: metrics, each label, the confusion of labels, calibration, residuals, wrong rows."""
    title = f"{found.task}: {found.unit} on {found.rows:,} rows"
    tables = [Table(title, ["metric", "score"], [[metric_label(m), score(v, m)] for m, v in found.metrics.items()], [])]
    if found.entities:
        tables.append(_of_labels("Entities", found.entities))
    if found.labels:
        tables.append(_of_labels("Labels" if found.entities is None else "Tags of words", found.labels))
    if found.confusion is not None and found.labels is not None:
        tables += _confusion(found.confusion, [one.label for one in found.labels])
    if found.calibration is not None:
        rows = [
            [f"{one.low:.1f} to {one.high:.1f}", f"{one.count:,}", percent(one.said), percent(one.right or 0.0)]
            for one in found.calibration.bins
            if one.said is not None
        ]
        note = f"expected calibration error: {percent(found.calibration.ece)}"
        tables.append(Table("Calibration", ["probability", "predictions", "said", "right"], rows, [note]))
    if found.residuals is not None:
        tables.append(
            Table(
                "Residuals", ["", "value"], [[n.replace("_", " "), f"{v:.4g}"] for n, v in found.residuals.items()], []
            )
        )
    return [*tables, *_wrong(found)]


def _of_labels(title: str, scores: Sequence[LabelScore]) -> Table:
    shown = sorted(scores, key=lambda one: -one.count)[:_MOST] if len(scores) > _MOST else scores
    rows = [
        [
            one.label,
            percent(one.precision),
            percent(one.recall),
            percent(one.f1),
            f"{one.count:,}",
            f"{one.predicted:,}",
        ]
        for one in shown
    ]
    notes = [f"the {_MOST} most frequent of {len(scores)}; --json has all"] if len(scores) > _MOST else []
    return Table(title, ["label", "precision", "recall", "f1", "rows", "predicted"], rows, notes)


def _confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Table]:
    """The matrix where it fits a terminal, else the pairs of labels that are confused most often."""
    if len(labels) <= 8:
        rows = [[label, *(f"{count:,}" for count in row)] for label, row in zip(labels, counts, strict=True)]
        return [Table("Confusion", ["right, below; predicted", *labels], rows, [])]
    pairs = [(count, n, m) for n, row in enumerate(counts) for m, count in enumerate(row) if n != m and count]
    most = [[labels[n], labels[m], f"{count:,}"] for count, n, m in sorted(pairs, reverse=True)[:_MOST]]
    return [Table("Confused most often", ["right", "predicted", "rows"], most, [])] if most else []


def _wrong(found: Evaluation) -> list[Table]:
    if not found.wrong:
        return []
    far = found.residuals is not None
    rows = [
        [
            one.place,
            _short(" | ".join(str(value) for value in one.inputs.values())),
            _short(f"{one.predicted:.4g}" if isinstance(one.predicted, float) else str(one.predicted)),
            _short(str(one.right)),
            "-" if one.probability is None else f"{one.probability:.4g}" if far else percent(one.probability),
        ]
        for one in found.wrong[:_WRONG]
    ]
    title = "Farthest off" if far else f"Wrong: {len(found.wrong):,} rows, the surest first"
    return [Table(title, ["row", "input", "predicted", "right", "error" if far else "probability"], rows, [])]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONG else line[: _LONG - 3] + "..."
