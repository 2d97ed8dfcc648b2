"""docs/interop.md: every test that it names is there, and nothing in its table of outcomes went wrong."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "interop.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    for path, name in named:
        assert f"def {name}(" in (TOP / path).read_text(encoding="utf-8"), (path, name)


def test_all_seventeen_groups_are_listed_and_shown_on_both_sides() -> None:
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    theirs = (TOP / "tests" / "interop" / "test_defects.py").read_text(encoding="utf-8")
    assert (
        listed == set(range(1, 18)) == {int(number) for number in re.findall(r"^def test_(\d+)_", theirs, re.MULTILINE)}
    )


def test_the_table_of_outcomes_is_printed_and_has_no_failure() -> None:
    table = PAGE.partition("<!-- printed by make test-interop: -->")[2].partition("<!-- up to here -->")[0]
    assert table.count("both") > 100 and "FAILED" not in table
