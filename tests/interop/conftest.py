"""What the tests beside AdapterHub's library show, gathered into the table of docs/interop.md.

A test says what it has shown when it has compared the outputs. `make test-interop` prints the table, and writes it into the page.
"""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any

import pytest

from tests.interop.table import BEGIN, END, Cells, Shown, table

_cells: Cells = collections.defaultdict(lambda: collections.defaultdict(set))


@pytest.fixture
def shown(request: pytest.FixtureRequest) -> Shown:
    """Notes what a test has shown: of which group and row, with which model, and what of `tests.interop.table.MEANING`."""

    def note(group: str, row: str, model: str, what: str) -> None:
        request.node.user_properties.append(("interop", [group, row, model, what]))

    return note


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call":
        return
    for name, value in report.user_properties:
        if name == "interop":
            group, row, model, what = value  # type: ignore[misc]
            _cells[group, row][model].add("failed" if report.failed else what)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _cells:
        return
    found = table(_cells)
    terminalreporter.section("what AdapterHub's library and this one read of one another")
    terminalreporter.write_line(found)
    page = os.environ.get("INTEROP_PAGE")
    if page:
        text = Path(page).read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        Path(page).write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8")
