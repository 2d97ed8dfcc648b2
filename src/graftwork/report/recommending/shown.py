"""An advice as printed, with a table, the reasons of each candidate, and what is unclear; and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console

from graftwork.report.formatting import score
from graftwork.report.recommending.ranking import Advice, Choice
from graftwork.report.table import Table, print_text

_MARKS = {"for": "+", "against": "-", "out": "x", "meets": "=", "note": "·"}


def print_advice(advice: Advice, console: Console) -> None:
    """Print an advice for a terminal or a pipe."""
    table = _table(advice)
    if console.is_terminal:
        console.print(table.rich())
    else:
        print_text(table.text(), console)
    for choice in advice.choices:
        lines = [f"  {_MARKS[reason.stance]} {reason}" for reason in choice.reasons]
        for line in [f"\n{choice.candidate.label}", *lines] if lines else []:
            print_text(line, console)
    print_text("", console)
    for line in filter(None, (advice.conclusion, *advice.unclear)):
        print_text(f"{line[0].upper()}{line[1:]}.", console)


def _table(advice: Advice) -> Table:
    """The candidates by rank, with their reasons as signs, the user's figure if there is one, and weights."""
    needs, base = advice.needs, advice.base
    sources = ", ".join(f"{name} ({rows:,d})" for name, rows in needs.sources.items())
    title = f"{needs.target}: {needs.rows:,d} rows, {f'sources {sources}' if sources else 'no sources'}; on {base.name}"
    measured = any(choice.figure is not None for choice in advice.choices)
    columns = ["", "rank", "reasons", *["measured"] * measured, "weights a task", "of base"]
    notes = [
        "One sign a reason: + for, - against. Below: x puts it out, = meets a limit. Those of one rank are not told apart.",
        f"Weights are counted on {base.name} with default options, heads aside; what tasks share, in equal parts.",
    ]
    return Table(title, columns, [_row(choice, base.parameters, measured) for choice in advice.choices], notes)


def _row(choice: Choice, parameters: int, measured: bool) -> list[str]:
    figure, weights = choice.figure, choice.weights
    signs = "x" if choice.rank is None else "+" * choice.stances.count("for") + "-" * choice.stances.count("against")
    own = "" if figure is None else score(figure.mean, figure.metric, figure.sd)
    counts = ["", ""] if weights is None else [f"{weights:,d}", f"{weights / parameters:.3%}"]
    return [choice.candidate.label, str(choice.rank or "out"), signs, *[own] * measured, *counts]


def advice_as_dict(advice: Advice) -> dict[str, Any]:
    """An advice as plain data, ready for JSON."""
    base = {"name": advice.base.name, "parameters": advice.base.parameters}
    plain = {"needs": dataclasses.asdict(advice.needs), "base": base, "choices": [*map(_plain, advice.choices)]}
    return {**plain, "conclusion": advice.conclusion, "not_enough_to_tell": [*advice.unclear]}


def _plain(choice: Choice) -> dict[str, Any]:
    plain = dataclasses.asdict(choice)
    reasons = [{**reason, "evidence": [*reason["evidence"]]} for reason in plain["reasons"]]
    named = {"method": choice.candidate.key, "label": choice.candidate.label, "rank": choice.rank}
    return {**named, "weights_a_task": choice.weights, "measured": plain["figure"], "reasons": reasons}
