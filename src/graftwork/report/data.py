"""What the tasks of a run are made of, as a table: shown before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

from graftwork.report.table import Table
from graftwork.tasks import Survey
from graftwork.tasks.survey import percent

_COLUMNS = ["task", "train", "dev", "test", "labels", "largest", "cut", "in train and dev", "empty"]


def data_table(surveys: Sequence[Survey]) -> Table:
    """A row a task, and below the table its labels and what should be known before it is trained."""
    several = len(surveys) > 1
    notes = [f"{one.task.name}: {note}" if several else note for one in surveys for note in one.notes()]
    return Table("Data", _COLUMNS, [_row(one) for one in surveys], notes)


def _row(one: Survey) -> list[str]:
    task = one.task
    part = "" if one.encoded == len(task.train) + len(task.dev) else "about "
    return [
        task.name,
        f"{len(task.train):,}",
        f"{len(task.dev):,}{' (held out)' if task.held_out else ''}",
        "-" if task.test is None else f"{len(task.test):,}",
        str(len(task.labels)) if one.counts else "-",
        "-" if one.largest is None else percent(one.largest),
        f"{part}{percent(one.cut / one.encoded, 0)}" if one.encoded else "-",
        f"{one.repeated:,}",
        f"{len(one.empty):,}",
    ]
