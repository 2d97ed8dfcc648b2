"""An advice as a reader sees it: a table, the reasons of each candidate, what cannot be told; and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from graftwork.report.recommending.evidence import Reason
from graftwork.report.recommending.ranking import Advice, Choice
from graftwork.report.table import Table, print_text
from graftwork.report.words import score

_MARKS = {"for": "+", "against": "-", "out": "x", "meets": "=", "note": "·"}


def print_advice(advice: Advice, console: Console) -> None:
    """Print an advice, for a terminal or for a pipe."""
    table = advice_table(advice)
    if console.is_terminal:
        console.print(table.rich())
    else:
        print_text(table.text(), console)
    for line in reason_lines(advice):
        print_text(line, console)


def advice_table(advice: Advice) -> Table:
    """Candidates by rank: standing, the user's own figure where there is one, weights."""
    needs, base = advice.needs, advice.base
    sources = ", ".join(f"{name} ({rows:,d})" for name, rows in needs.sources.items())
    title = f"{needs.target}: {needs.rows:,d} rows, {f'sources {sources}' if sources else 'no sources'}; on {base.name}"
    measured = any(choice.figure is not None for choice in advice.choices)
    columns = ["", "rank", "reasons", *(["measured"] if measured else []), "weights a task", "of base"]
    rows = [_row(choice, base.parameters, measured) for choice in advice.choices]
    notes = [
        "One sign a reason: + for, - against. Below: x puts it out, = meets a limit. Those of one rank are not told apart.",
        f"Weights are counted on {base.name} with default options, heads aside; what tasks share, in equal parts.",
    ]
    return Table(title, columns, rows, notes)


def reason_lines(advice: Advice) -> Iterator[str]:
    """The reasons of every candidate, and what cannot be told."""
    for choice in advice.choices:
        if choice.reasons:
            yield f"\n{choice.candidate.label}"
        yield from (f"  {_MARKS[reason.stance]} {reason}" for reason in choice.reasons)
    yield ""
    yield from (f"{line[0].upper()}{line[1:]}." for line in (advice.conclusion, *advice.unclear) if line)


def advice_as_dict(advice: Advice) -> dict[str, Any]:
    """An advice as plain data, ready for JSON."""
    return {
        "needs": dataclasses.asdict(advice.needs),
        "base": {"name": advice.base.name, "parameters": advice.base.parameters},
        "choices": [_plain(choice) for choice in advice.choices],
        "conclusion": advice.conclusion,
        "not_enough_to_tell": list(advice.unclear),
    }


def _row(choice: Choice, parameters: int, measured: bool) -> list[str]:
    stances = [reason.stance for reason in choice.reasons]
    signs = "x" if choice.rank is None else "+" * stances.count("for") + "-" * stances.count("against")
    figure, weights = choice.figure, choice.weights
    own = [score(figure.mean, figure.metric, figure.sd) if figure is not None else ""] if measured else []
    counts = ["", ""] if weights is None else [f"{weights:,d}", f"{weights / parameters:.3%}"]
    return [choice.candidate.label, "out" if choice.rank is None else str(choice.rank), signs, *own, *counts]


def _plain(choice: Choice) -> dict[str, Any]:
    return {
        "method": choice.candidate.key,
        "label": choice.candidate.label,
        "rank": choice.rank,
        "weights_a_task": choice.weights,
        "measured": None if choice.figure is None else dataclasses.asdict(choice.figure),
        "reasons": [_plain_reason(reason) for reason in choice.reasons],
    }


def _plain_reason(reason: Reason) -> dict[str, Any]:
    plain = {key: value for key, value in dataclasses.asdict(reason).items() if key != "method"}
    return {**plain, "evidence": [dataclasses.asdict(one) for one in reason.evidence]}
