"""The rows whose answer became right, or wrong, from a control to what a report is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.report.table import Table


def changed_tables(evidence: Mapping[str, Any], names: Mapping[str, str]) -> list[Table]:
    """A table of the rows that became right and one of those that became wrong; none where no row is right as a whole.

    Args:
        evidence: What the predictions for a target say.
        names: The names of its lines.
    """
    if evidence.get("gained") is None:
        return []
    before, after = (names[evidence[side]] for side in ("control", "subject"))
    found = []
    for better, words, count, wrong in (
        (True, "wrong to right", evidence["gained"], "before"),
        (False, "right to wrong", evidence["lost"], "after"),
    ):
        shown = [one for one in evidence["changed"] if one["better"] is better]
        lines = [[str(one["row"] + 1), one["text"] or "–", one["gold"], one[wrong]] for one in shown]
        first = f", the first {len(shown)}" if len(shown) < count else ""
        title = f"{evidence['task']}, from {words}: {count:,} of {evidence['rows_scored']:,} rows{first}"
        notes = [f"From {before} to {after}, by what most seeds answer."] if lines else ["There is none."]
        found.append(Table(title, ["row", "text", "right", f"wrong, {wrong}"], lines, notes))
    return found
