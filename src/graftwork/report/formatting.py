"""Numbers and names as a reader wants them: scores by their metric, sizes, times, what a row is called, names of any kind."""

from __future__ import annotations

import unicodedata

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.training.scores import metrics_in

# Controls, lone surrogates, ends of lines and paragraphs; and what turns the direction of all text behind it.
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def printable(text: str, *, keep: str = "") -> str:
    """A text with nothing in it that a terminal obeys: such characters are written out as in JSON, by their number.

    Args:
        text: Perhaps with names from files.
        keep: Characters that stay, such as the end of a line.
    """
    if text.isascii() and text.isprintable():
        return text
    unseen = {c for c in text if (unicodedata.category(c) in _UNSEEN or c in _TURNING) and c not in keep}
    return "".join(f"\\u{ord(c):04x}" if c in unseen else c for c in text)


def column_label(kind: str, method: str = "") -> str:
    """What a column or a legend calls a kind of unit, of a method where it is one of several."""
    return method or UNIT_KINDS[kind].title


def kind_label(kind: str, members: int, method: str = "") -> str:
    """What a row of a target's table is called.

    Args:
        kind: Of the row's units.
        members: How many adapters they use.
        method: Whose, where it is one of several.
    """
    if method:
        return f"{UNIT_KINDS[kind].title}: {method}"
    return (UNIT_KINDS[kind].row or UNIT_KINDS[kind].title).format(members)


def kept(kind: str) -> bool:
    """Whether what such a unit trained is in the run's folder."""
    return UNIT_KINDS[kind].predicts or not UNIT_KINDS[kind].trains_base


def is_share(metric: str) -> bool:
    """Whether a metric is a share of what is right, 0 to 1, that is read in percent; a mean is where all its metrics are."""
    return all(one.endswith(("accuracy", "f1")) or one == "exact_match" for one in metrics_in(metric))


def is_of_hundred(metric: str) -> bool:
    """Whether a metric goes from 0 to 100 by itself; a mean does where all its metrics do."""
    return all(one in ("bleu", "chrf") for one in metrics_in(metric))


def metric_label(metric: str) -> str:
    """A metric with its unit."""
    return f"{metric}, %" if is_share(metric) else metric


def score(value: float, metric: str, sd: float | None = None) -> str:
    """A score, with its standard deviation where there is one; shares in percent, without the sign."""
    factor, digits = scale(metric)
    spread = "" if sd is None else f" ± {factor * sd:.{digits}f}"
    return f"{factor * value:.{digits}f}{spread}"


def scale(metric: str) -> tuple[int, int]:
    """What a score is multiplied by to be read, and its digits behind the point."""
    return (100, 1) if is_share(metric) else (1, 1) if is_of_hundred(metric) else (1, 3)


def change(value: float, metric: str) -> str:
    """A difference of two scores, with its sign: ``-2.1``."""
    factor, digits = scale(metric)
    return f"{round(factor * value, digits) + 0.0:+.{digits}f}"


def points(metric: str) -> str:
    """The unit of differences, behind a space: points of a hundred, or nothing."""
    return " points" if is_share(metric) or is_of_hundred(metric) else ""


def size(count: int) -> str:
    """Bytes, in powers of a thousand, to three digits."""
    value, units = count / 1000, ["KB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {units[0]}"


def duration(seconds: float) -> str:
    """A time in the two units that matter."""
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
