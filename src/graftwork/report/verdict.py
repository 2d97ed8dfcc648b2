"""The verdict on a run in words: for each target whether what was trained helps, against what, and how sure that is."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.experiments.comparing.compare import line_of
from graftwork.report.comparison import UNCORRECTED, Part, interval, parts, verdict_of
from graftwork.report.formatting import change, column_label, line_label, points, score
from graftwork.report.run_data import Gathered
from graftwork.report.table import Table

_MOST_SEEDS = 10  # whose differences are said
BETTER, WORSE, EQUAL, OPEN = "better", "worse", "cannot be told apart", "not known"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on one target.

    Attributes:
        target: The task.
        word: ``better``, ``worse``, ``cannot be told apart`` or ``not known``.
        sentence: What was compared with what, and the word.
        reasons: The scores, the difference with its interval, and what limits them.
        table: The difference from every other line.
    """

    target: str
    word: str
    sentence: str
    reasons: list[str]
    table: Table | None = None

    def text(self) -> str:
        """The sentence and its reasons, each a line."""
        return "\n".join([self.sentence, *(f"  {reason}" for reason in self.reasons)])


def verdicts(found: Gathered) -> list[Verdict]:
    """The verdict on each target that has results; of a comparison, on each method against full fine-tuning."""
    if found.comparison is not None:
        return [one for part in parts(found.comparison)[:1] for one in _of_comparison(part)]
    known = {one["task"]: one for one in found.known}
    return [_of_target(one.task, one.rows, known.get(one.task), found.unknown) for one in found.scored]


def summary(found: list[Verdict]) -> str:
    """One line over several verdicts: how many are better, cannot be told apart, and so on; empty for one."""
    if len(found) < 2:
        return ""
    words = [one.word for one in found]
    counts = [f"{word}: {words.count(word)}" for word in (BETTER, EQUAL, WORSE, OPEN) if word in words]
    return f"Of {len(found)}: {', '.join(counts)}."


def _of_target(
    task: str, rows: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any] | None, unknown: str
) -> Verdict:
    if evidence is None:
        why = unknown or "the kept predictions and the recipe's data were not compared yet"
        return Verdict(task, OPEN, f"{task}: how sure a difference is, is not known.", [f"Why: {why}"])
    lines = {line_of(row): row for row in rows}
    gaps = {one["line"]: one["against"] for one in evidence["lines"]}
    subject, control = lines.get(evidence["subject"]), lines.get(evidence["control"] or "")
    if subject is None or control is None:
        return Verdict(task, OPEN, f"{task}: there is nothing to compare with yet.", [])
    gap, metric = gaps.get(evidence["control"]), evidence["metric"]
    name, against = line_label(subject), line_label(control)
    if gap is None:
        return Verdict(
            task, OPEN, f"{task}: {name} against {against} is not known.", ["The kept predictions do not tell."]
        )
    word = verdict_of(gap)[0]
    phrase = f"{word} from" if word == EQUAL else f"is {word} than"
    means = [score(_mean(row, evidence["seeds"]), metric) for row in (subject, control)]
    reasons = [
        f"{metric} {' against '.join(means)}: {interval(gap, metric)}{points(metric)} (95 % interval), {_p(gap)}.",
        _of_seeds(evidence),
        _basis(evidence),
    ]
    others = [
        [line_label(lines[line]), interval(one, metric), *verdict_of(one)]
        for line, one in gaps.items()
        if one is not None and line in lines
    ]
    columns = ["", f"{name} less it [95 %]", f"{name} is", "p"]
    table = Table(f"{task}: {name} against every control", columns, others, [UNCORRECTED]) if len(others) > 1 else None
    return Verdict(task, word, f"{task}: {name} {phrase} {against}.", reasons, table)


def _mean(row: Mapping[str, Any], seeds: Sequence[int]) -> float:
    """The mean score of a line over the seeds that are compared, which may be fewer than it was trained with."""
    return statistics.fmean(one for seed, one in zip(row["seeds"], row["scores"], strict=True) if seed in seeds)


def _p(gap: Mapping[str, Any]) -> str:
    p = verdict_of(gap)[1]
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def _of_seeds(evidence: Mapping[str, Any]) -> str:
    """The difference for each seed, or that there is only one."""
    by_seed, metric = evidence["by_seed"], evidence["metric"]
    if len(by_seed) == 1:
        return "One seed: the interval has the noise of the rows, not that of training. Give two seeds or more."
    shown = ", ".join(change(one, metric) for one in by_seed[:_MOST_SEEDS])
    more = ", …" if len(by_seed) > _MOST_SEEDS else ""
    return f"By seed: {shown}{more}; above 0 in {sum(one > 0 for one in by_seed)} of {len(by_seed)} seeds."


def _basis(evidence: Mapping[str, Any]) -> str:
    """What the interval rests on, and what it does not have."""
    seeds = len(evidence["seeds"])
    text = (
        f"Paired bootstrap: {evidence['draws']:,} draws of {evidence['rows_scored']:,} {evidence['scored_on']} rows, "
        "the same for both"
    )
    if seeds > 1:
        text += f", of the mean over {seeds} seeds; the noise of training is in it only as far as they average it out"
    text += "."
    if evidence["folds"]:
        text += (
            f" Cross-validation in {evidence['folds']} folds: each seed was scored on rows that it was not trained on."
        )
    if evidence["scored_on"] == "dev":
        text += " The dev rows also chose the best epoch."
    return text


def _of_comparison(part: Part) -> list[Verdict]:
    """Each method of a comparison against full fine-tuning, in the mean of all targets where there are several."""
    found = []
    for row in part.rows:
        gap = row["against_full"]
        if gap is None:
            continue
        word = verdict_of(gap)[0]
        phrase = f"{word} from" if word == EQUAL else f"is {word} than"
        reason = f"{interval(gap, part.metric)}{points(part.metric)} (95 % interval), {_p(gap)}."
        where = part.title.split(":")[0]
        found.append(Verdict(where, word, f"{where}: {column_label(row)} {phrase} full fine-tuning.", [reason]))
    return found
