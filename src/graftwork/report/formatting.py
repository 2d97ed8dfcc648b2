"""Numbers and names for a reader: scores by their metric, sizes, times, labels of rows, printable text."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.training.scores import metrics_in

# Controls, lone surrogates, ends of lines and paragraphs; and characters that change the direction of the text after them.
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def printable(text: str, *, keep: str = "") -> str:
    """A text in which characters that a terminal obeys are escaped as in JSON; ``keep`` has characters that stay."""
    if text.isascii() and text.isprintable():
        return text
    unseen = {c for c in text if (unicodedata.category(c) in _UNSEEN or c in _TURNING) and c not in keep}
    return "".join(f"\\u{ord(c):04x}" if c in unseen else c for c in text)


def column_label(row: Mapping[str, Any]) -> str:
    """The name of a unit, or of a row of the results, in a column or legend: its method's, or its kind's."""
    return row.get("method") or UNIT_KINDS[row["kind"]].title


def kind_label(kind: str, members: int, method: str = "") -> str:
    """The name of a row in a target's table; ``members`` is the number of adapters that the units of the row use."""
    if method:
        return f"{UNIT_KINDS[kind].title}: {method}"
    return (UNIT_KINDS[kind].row or UNIT_KINDS[kind].title).format(members)


def line_label(row: Mapping[str, Any]) -> str:
    """The name of a row of a target: ``fusion of all 4``."""
    return row.get("method") or kind_label(row["kind"], len(row["members"]))


def kept(kind: str) -> bool:
    """Whether the weights that such a unit has trained are in the run's folder."""
    return UNIT_KINDS[kind].predicts or not UNIT_KINDS[kind].trains_base


def is_share(metric: str) -> bool:
    """Whether a metric is a share of right answers, shown in percent; a mean is one if all its metrics are."""
    return all(one.endswith(("accuracy", "f1")) or one == "exact_match" for one in metrics_in(metric))


def is_of_hundred(metric: str) -> bool:
    """Whether a metric goes from 0 to 100 by itself; a mean does if all its metrics do."""
    return all(one in ("bleu", "chrf") for one in metrics_in(metric))


def metric_label(metric: str) -> str:
    """A metric's name with its unit."""
    return f"{metric}, %" if is_share(metric) else metric


def score(value: float, metric: str, sd: float | None = None) -> str:
    """A score, with its standard deviation if there is one; shares in percent, without the percent sign."""
    factor, digits = scale(metric)
    spread = "" if sd is None else f" ± {factor * sd:.{digits}f}"
    return f"{factor * value:.{digits}f}{spread}"


def scale(metric: str) -> tuple[int, int]:
    """The factor that a score is shown with, and its number of decimals."""
    return (100, 1) if is_share(metric) else (1, 1) if is_of_hundred(metric) else (1, 3)


def change(value: float, metric: str) -> str:
    """A difference of two scores, with its sign: ``-2.1``."""
    factor, digits = scale(metric)
    return f"{round(factor * value, digits) + 0.0:+.{digits}f}"


def points(metric: str) -> str:
    """The unit of differences, after a space: points of a hundred, or nothing."""
    return " points" if is_share(metric) or is_of_hundred(metric) else ""


def size(count: int) -> str:
    """A number of bytes to three digits, in powers of a thousand."""
    value, units = count / 1000, ["KB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {units[0]}"


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def named_score(value: float, metric: str) -> str:
    """A score in a sentence: ``accuracy 84.2 %``."""
    return f"{metric} {score(value, metric)}{' %' if is_share(metric) else ''}"
