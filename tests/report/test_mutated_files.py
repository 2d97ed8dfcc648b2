"""Files of a run that were changed anyhow: they are shown, or refused by the library's own error.

200 changed files by default; ``GRAFTWORK_MUTATIONS=5000`` for as many.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from graftwork.errors import GraftworkError
from graftwork.report import gather, print_tables, write_page, write_report
from graftwork.report.files import _figures
from graftwork.report.plots import png
from graftwork.report.recommending.measured import read_figures
from graftwork.training import Recipe, plan
from tests.report.made_up import MANY, RECIPE, UNITS, comparison_of, many_result, many_results, results_of, unit_result

COUNT = int(os.environ.get("GRAFTWORK_MUTATIONS", "200"))
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.5, -0.5, 10**400, 10**18, float("nan"), float("inf"), 1e300, "", "x", "accuracy"),
    *(
        [],
        {},
        [None],
        ["x"],
        [[]],
        [[1, 2]],
        {"x": 1},
        {"accuracy": 0.5},
        {"x": {}},
        "$\\frac{$",
        "\x1b]0;t\x07",
        "a/b",
    ),
    *(
        "\u009b31m",
        "<script>alert(1)</script>",
        "|",
        "](javascript:x)",
        "\ud800",
        "fusion",
        "method",
        "rte",
        "dev",
        "2",
    ),
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in JSON values: what holds it, and its key there."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def mutated(value: Any, draw: random.Random) -> str:
    """JSON in which one thing to three are other things, gone, twice or another key's; or whose bytes are damaged."""
    found = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        every = list(places(found))
        if not every:
            break
        holder, key = draw.choice(every)
        way = draw.randrange(4)
        if way == 0:
            del holder[key]
        elif way == 1:
            other, at = draw.choice(every)
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    text = json.dumps(found)
    if draw.random() < 0.05:
        at = draw.randrange(len(text))
        text = text[:at] + draw.choice(["", "\x00", "9", '"', "}"]) + text[at + 1 :]
    return text


def write_whole(run: Path, recipe: Recipe, result: Callable[[Any], Any], results: Any) -> dict[Path, Any]:
    """A run that is done, with all its files; gives what can be changed."""
    files = {unit.folder(run) / "result.json": result(unit) for unit in plan(recipe)}
    files |= {run / "results.json": results, run / "comparison.json": comparison_of()}
    for path, value in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    (run / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json", exclude_unset=True)))
    return files


def show(run: Path, pictures: bool) -> None:
    found = gather(run)
    print_tables(found, Console(file=StringIO()))
    write_report(run, plots=False)
    write_page(run)
    for _, figure in _figures(found) if pictures else ():
        png(figure)
    read_figures(run)


def test_whatever_a_file_says_it_is_shown_or_refused(tmp_path: Path) -> None:
    one = write_whole(tmp_path / "one", RECIPE, lambda unit: unit_result(unit, 0.7), results_of(UNITS))
    many = write_whole(tmp_path / "many", MANY, many_result, many_results())
    draw, shown, refused = random.Random(3), 0, 0
    for number in range(COUNT):
        files = draw.choice([one, many])
        path = draw.choice([*files, *[p for p in files if p.name != "result.json"] * 5])
        path.write_text(mutated(files[path], draw), encoding="utf-8")
        try:
            show(tmp_path / ("one" if files is one else "many"), pictures=number % 50 == 0)
            shown += 1
        except GraftworkError:
            refused += 1
        finally:
            path.write_text(json.dumps(files[path]))
    assert shown > COUNT // 20 and refused > COUNT // 5


def test_what_is_whole_is_shown(tmp_path: Path) -> None:
    write_whole(tmp_path / "one", RECIPE, lambda unit: unit_result(unit, 0.7), results_of(UNITS))
    write_whole(tmp_path / "many", MANY, many_result, many_results())
    for name in ("one", "many"):
        show(tmp_path / name, pictures=False)


@pytest.mark.parametrize("name", ["result.json", "results.json", "comparison.json"])
def test_deep_files_are_refused(tmp_path: Path, name: str) -> None:
    files = write_whole(tmp_path, RECIPE, lambda unit: unit_result(unit, 0.7), results_of(UNITS))
    next(path for path in files if path.name == name).write_text("[" * 50_000 + "]" * 50_000)
    with pytest.raises(GraftworkError, match="is damaged"):
        show(tmp_path, pictures=False)
