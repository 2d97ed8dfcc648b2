"""Names from files are text wherever they are shown: no terminal, page, picture or shell obeys them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.experiments import Recipe
from graftwork.report import Live, Table, gather, print_next, printable, write_page, write_report
from graftwork.report.files import _figures
from graftwork.report.plots import png
from tests.report.made_up import RECIPE, UNITS, comparison_of, unit_result

ODD = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202e<script>alert(1)</script>[x](javascript:y)\n# |$\\frac{$"
OBEYED = [chr(n) for n in (*range(32), 127, *range(128, 160), 0x202E) if chr(n) != "\n"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A run whose files have a strange name wherever a text may stand."""
    run = tmp_path / "run"
    for unit in UNITS:
        result: dict[str, Any] = {**unit_result(unit, 0.7), "metric": ODD, "scored_on": ODD}
        if "attention" in result:
            result["attention"]["adapters"] = [f"{ODD}{n}" for n, _ in enumerate(result["attention"]["adapters"])]
            sites = result["attention"]["sites"]
            result["attention"]["sites"] = {f"{ODD}{n}": weights for n, weights in enumerate(sites.values())}
        if unit.kind != "copies":
            unit.folder(run).mkdir(parents=True)
            (unit.folder(run) / "result.json").write_text(json.dumps(result))
        else:
            unit.folder(run).mkdir(parents=True)
            (unit.folder(run) / "error.txt").write_text(f"{ODD}\n")
    comparison = comparison_of()
    comparison["costs"]["batch"]["device"] = ODD
    for target in comparison["targets"]:
        target["task"] = target["metric"] = target["scored_on"] = ODD
        for row in target["rows"]:
            row["method"] = ODD if "method" in row else ""
    (run / "comparison.json").write_text(json.dumps(comparison))
    (run / "recipe.json").write_text(json.dumps(RECIPE.model_dump(mode="json", exclude_unset=True)))
    return run


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_that_a_terminal_obeys_is_printed(odd: Path, options: list[str]) -> None:
    shown = CliRunner().invoke(app, ["show", str(odd), "--no-plots", *options])
    assert shown.exit_code == 0 and not [c for c in OBEYED if c in shown.output]
    assert "owned" in shown.output


def test_nothing_of_a_name_is_markup_in_a_page_of_markdown(odd: Path) -> None:
    write_report(odd, plots=False)
    page, text = ((odd / f"results.{ending}").read_text() for ending in ("md", "txt"))
    assert "<script" not in page and "](javascript" not in page and "&lt;script&gt;" in page
    assert not [c for c in OBEYED if c in page + text]
    for table in page.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in rows}) <= 1  # all have the cells of their table


def test_nothing_of_a_name_is_markup_in_a_page_of_html(odd: Path) -> None:
    text = write_page(odd).read_text()
    assert text.count("<script") == 1 and "&lt;script&gt;" in text
    assert not [c for c in OBEYED if c in text]


def test_nothing_of_a_name_is_a_formula_in_a_picture(odd: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, figure in _figures(gather(odd)):
        assert png(figure).startswith(b"\x89PNG"), name


def test_a_terminal_s_view_and_its_lines_obey_nothing() -> None:
    for console in (Console(file=StringIO()), Console(file=StringIO(), force_terminal=True, color_system=None)):
        with Live(RECIPE, console) as live:
            live.planned(UNITS, {})
            live.failed(UNITS[0], ODD)
            live.message(ODD)
        assert "\x1b]0" not in console.file.getvalue() and "\x9b" not in console.file.getvalue()


def test_a_message_obeys_nothing(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["show", f"{tmp_path}/\x9b31m\x1b]0;x\x07"])
    assert shown.exit_code == 1 and not [c for c in OBEYED if c in shown.output]


def test_a_command_to_type_next_runs_nothing_else() -> None:
    raw = {"base": {"model": "base"}, "tasks": {"rte": {"data": "d", "text": '"; rm -rf "$HOME'}}}
    recipe = Recipe.make(raw)
    found = dataclasses.replace(gathered_of(recipe), units=(dataclasses.replace(UNITS[0], task="rte"),))
    out = StringIO()
    print_next(found, Console(file=out))
    assert shlex.split(out.getvalue().splitlines()[-1])[-1] == '<"; rm -rf "$HOME>'


def gathered_of(recipe: Recipe) -> Any:
    from graftwork.report import Gathered

    return Gathered(Path("runs/x"), recipe, UNITS, {"targets": [], "units": []})


def test_what_is_printable_stays_as_it_is() -> None:
    for text in ("ä ±", "日本", "می‌خواهم", "👩‍👩‍👧", "a\\b"):
        assert printable(text) == text
    assert printable("\x1b\x9b\u202e\ud800") == "\\u001b\\u009b\\u202e\\ud800"
    assert json.loads(f'"{printable(chr(155))}"') == "\x9b"
    assert printable("a\nb", keep="\n") == "a\nb" and Table("a\nb", ["\x1b"], [["\r"]], ["\x9b"]).columns == ["\\u001b"]
