"""Tables of results: scores by their metric, what is missing marked, three ways to print them."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from graftwork.report import Table, tables
from graftwork.report.formatting import duration, score, size
from tests.report.made_up import UNITS, results_of


def test_a_table_for_each_target_and_one_of_the_sources() -> None:
    rte, mrpc, sources = tables(results_of(UNITS), UNITS)
    assert rte.title == "rte: accuracy on dev, mean ± sd over the seeds"
    assert rte.columns == ["", "accuracy, %", "seeds", "trained", "file", "seconds", "ms/row"]
    assert [row[0] for row in rte.rows] == [
        "head only",
        "full fine-tuning",
        "single adapter",
        "uniform mean of 3",
        "fusion of own alone",
        "fusion of 2 copies",
        "fusion of all 3",
    ]
    assert rte.rows[0] == ["head only", "71.0 ± 1.4", "2", "1,234,567", "4.20 KB", "60", "12.3"]
    assert rte.rows[1][4] == "438 MB*"
    assert mrpc.columns[1] == "f1, %" and mrpc.rows[0][1] == "81.0 ± 1.4"
    assert sources.rows == [["wmt", "bleu", "27.3", "dev", "1,234,567", "3.60 MB", "60", "12.3"]]


def test_the_split_is_told_and_choosing_on_it_too() -> None:
    on_dev, on_test = tables(results_of(UNITS))[0], tables(results_of(UNITS, "test"))[0]
    chosen = "The best epoch was chosen on the same dev rows"
    assert "on dev" in on_dev.title and any(note.startswith(chosen) for note in on_dev.notes)
    assert "on test" in on_test.title and not any(note.startswith(chosen) for note in on_test.notes)


def test_what_is_not_done_is_marked_and_not_filled_in() -> None:
    done = [u for u in UNITS if u.kind in ("adapter", "head") and u.task == "rte" and (u.kind, u.seed) != ("head", 1)]
    rte, mrpc, sources = tables(results_of(done), UNITS)
    rows = {row[0]: row for row in rte.rows}
    assert rows["head only"][1:3] == ["70.0", "1 of 2"]
    assert rows["single adapter"][1:3] == ["71.0 ± 1.4", "2"]
    assert rows["fusion of all 3"][1:] == ["not done yet", "0 of 2", "", "", "", ""]
    assert mrpc.title == "mrpc: nothing is done yet" and {row[1] for row in mrpc.rows} == {"not done yet"}
    assert sources.rows == [["wmt", "", "not done yet", "", "", "", "", ""]]


def test_without_the_plan_there_is_what_is_done() -> None:
    done = [unit for unit in UNITS if unit.kind == "head"]
    assert [len(table.rows) for table in tables(results_of(done))] == [1, 1]
    assert tables(results_of([])) == []


def test_controls_that_were_not_asked_for_are_no_rows() -> None:
    units = [unit for unit in UNITS if unit.kind in ("adapter", "fusion")]
    assert [row[0] for row in tables(results_of(units), units)[0].rows] == ["single adapter", "fusion of all 3"]


ODD = Table("a | [red]b", ["", "x"], [["[bold]|", "1"], ["日本", "22"]], ["* so"])


def test_markdown_has_no_broken_cells() -> None:
    assert ODD.markdown().splitlines() == [
        "## a \\| [red]b",
        "",
        "|  | x |",
        "| --- | ---: |",
        "| [bold]\\| | 1 |",
        "| 日本 | 22 |",
        "",
        "\\* so",
    ]


def test_text_is_aligned() -> None:
    assert ODD.text().splitlines()[2:] == ["          x", "-------  --", "[bold]|   1", "日本     22", "* so"]


def test_names_are_no_markup_in_a_terminal() -> None:
    console = Console(file=StringIO(), width=40)
    console.print(ODD.rich())
    assert "[red]b" in console.file.getvalue() and "[bold]|" in console.file.getvalue()


def test_a_whole_table_fits_eighty_columns() -> None:
    console = Console(file=StringIO(), width=80)
    console.print(tables(results_of(UNITS), UNITS)[0].rich())
    rows = [line for line in console.file.getvalue().splitlines() if "1,234,567" in line]
    assert len(rows) == 7 and all("…" not in row and row.endswith("12.3") for row in rows)


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("accuracy", "50.0 ± 2.5"),
        ("squad_f1", "50.0 ± 2.5"),
        ("exact_match", "50.0 ± 2.5"),
        ("bleu", "0.5 ± 0.0"),
        ("pearson", "0.500 ± 0.025"),
    ],
)
def test_a_score_is_scaled_by_its_metric(metric: str, shown: str) -> None:
    assert score(0.5, metric, 0.025) == shown


def test_sizes_and_times() -> None:
    assert [size(n) for n in (8494, 999_949, 3_590_000, 2**31)] == ["8.49 KB", "1.00 MB", "3.59 MB", "2.15 GB"]
    assert [duration(s) for s in (0.4, 59.4, 59.6, 3599.7, 86_399, 200_000)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "1 h 00 min",
        "1 d 0 h",
        "2 d 7 h",
    ]
