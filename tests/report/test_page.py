"""A run as one page: what is on it, that it needs nothing else, and that names cannot break it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, plan
from graftwork.report import write_page
from graftwork.report.curves import curves
from graftwork.report.page import page, sort_key
from graftwork.report.plots import svg
from graftwork.report.run_data import Gathered
from tests.report.made_up import MANY, RECIPE, UNITS, many_results, results_of

VOID = {"meta", "br"}


class Outline(HTMLParser):
    """The tags of a page in order, its text, its links; and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.heads: list[str] = []
        self.links: list[str] = []
        self.sorts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.links += [str(found[key]) for key in ("src", "href", "xlink:href") if key in found]
        if "data-sort" in found:
            self.sorts.append(str(found["data-sort"]))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.heads.append(data)


@pytest.fixture
def gathered(tmp_path: Path) -> Gathered:
    run = tmp_path / "a <run>"
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps({"tasks": {"rte": {"data": "<script>alert(1)</script>"}}}))
    return Gathered(run, RECIPE, UNITS, results_of(UNITS))


def test_everything_that_is_known_of_a_run_is_on_it(gathered: Gathered) -> None:
    text = page(gathered)
    found = Outline(text)
    assert not found.open
    assert found.heads[0] == "a <run>"
    for head in ("rte: accuracy", "mrpc: f1", "Sources", "Where the fusion for rte looks", "wmt: a source", "Recipe"):
        assert any(h.startswith(head) for h in found.heads), head
    row = next(r for r in gathered.results["targets"] if (r["task"], r["kind"]) == ("rte", "fusion"))
    assert f"{100 * row['mean']:.1f} ± {100 * row['sd']:.1f}" in text
    assert f'<td data-sort="{row["trained_weights"]}">{row["trained_weights"]:,}</td>' in text
    assert '<th scope="col"><button type="button">rte (own)</button></th>' in text and ">rte (own)</text>" in text
    assert (
        text.count('<svg viewBox="') == text.count('role="img" aria-label="') == 4 + 4 + 3
    )  # scores, attention, curves
    assert re.search(r"torch \d", text) and re.search(r"graftwork \d", text)


def test_it_needs_no_network_and_no_other_file(gathered: Gathered) -> None:
    text = page(gathered)
    assert not [link for link in Outline(text).links if not link.startswith(("#", "data:image/png;base64,"))]
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert not re.search(r"https?://", text)


def test_names_and_data_are_text_and_no_markup(gathered: Gathered) -> None:
    name = "<b>\"x\" & 'y'"
    raw = {"base": {"model": "m"}, "targets": [name], "tasks": {name: {"data": "d"}, "other": {"data": "d"}}}
    recipe = Recipe.make(raw)
    units = plan(recipe)
    text = page(
        dataclasses.replace(gathered, recipe=recipe, units=units, results={"targets": [], "sources": [], "units": []})
    )
    assert not Outline(text).open
    assert "<b>" not in text and "&lt;b&gt;" in text
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text


def test_a_run_under_way_is_marked_so(gathered: Gathered) -> None:
    half = dataclasses.replace(gathered, results=results_of(UNITS[:4]))
    text = page(half)
    assert f"4 of {len(UNITS)} trainings are done." in text
    assert '<td data-sort="" class="missing">not done yet</td>' in text


def test_a_run_of_many_tasks_has_their_matrices_and_their_curves(gathered: Gathered) -> None:
    many = dataclasses.replace(gathered, recipe=MANY, units=plan(MANY), results=many_results())
    text = page(many)
    found = Outline(text)
    assert not found.open
    begins = [
        "Where the fusion for rte looks: fusion of all, jointly trained",
        "Together against alone",
        "What is forgotten: full fine-tuning, in sequence",
        "What is forgotten: adapters, in sequence",
        "What is forgotten, task after task",
        "rte: its trainings",
        "All tasks: full fine-tuning, in sequence",
        "All tasks: shared adapter, all tasks",
    ]
    places = [next((n for n, head in enumerate(found.heads) if head.startswith(begin)), None) for begin in begins]
    assert None not in places and places == sorted(places)  # type: ignore[type-var]
    assert text.count('aria-label="what is forgotten: scores of tasks, task after task"') == 1  # side by side
    for step in ("1. rte", "2. mrpc", "3. cola"):
        assert text.count(f">{step}</text>") == 2
    assert [text.count(f'aria-label="where the fusion for {task} looks"') for task in MANY.tasks] == [1] * 3
    assert "<title>mrpc, seed 1</title>" in text and "<title>mean, seed 0</title>" in text
    assert "all-tasks: " not in text  # its name is of folders


def test_a_run_without_sequences_says_nothing_of_them(gathered: Gathered) -> None:
    text = page(gathered)
    assert "forgotten" not in text and "All tasks" not in text


def test_names_of_tasks_are_text_in_matrices_too(gathered: Gathered) -> None:
    results = many_results()
    raw = json.dumps(results).replace('"mrpc"', '"<i>x</i>"').replace('"all-tasks"', '"all"')
    text = page(dataclasses.replace(gathered, recipe=MANY, units=(), results=json.loads(raw)))
    assert not Outline(text).open and "<i>x" not in text and "&lt;i&gt;x" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        write_page(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        ("84.2 ± 0.5", "84.2"),
        ("-0.123", "-0.123"),
        ("2,807,426", "2807426"),
        ("1.06 MB", "1060000"),
        ("91.4 MB*", "91400000"),
        ("78.0*", "78"),
        ("+1.5", "1.5"),
        ("2 of 3", "2"),
        ("fusion of all 2", "fusion of all 2"),
        ("", ""),
    ],
)
def test_cells_sort_by_what_they_mean(cell: str, key: str) -> None:
    assert sort_key(cell) == key


def test_a_line_has_its_name_and_its_place(gathered: Gathered) -> None:
    unit = {**gathered.results["units"][0], "unit": "a</title><script>", "best_epoch": 3}
    unit["curves"] = {"loss": [[1, 2.0], [2, math.nan], [3, 4.0]], "score": [[1, 0.5], [2, math.nan], [3, 0.7]]}
    drawn = svg(curves([unit], 'of "<a>"'))
    assert drawn.count("<title>a&lt;/title&gt;&lt;script&gt;</title>") == 2
    assert 'aria-label="of &quot;&lt;a&gt;&quot;"' in drawn and ">loss</text>" in drawn and ">step</text>" in drawn
    assert drawn == svg(curves([unit], 'of "<a>"'))  # whenever it is drawn
    assert not re.search(
        r"\bid=\"(?![mp][0-9a-f]{10}\")", drawn
    )  # of two pictures on a page, none has an id of the other's


def test_without_matplotlib_there_are_the_tables_and_what_to_install(
    gathered: Gathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Outline(page(gathered))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = page(gathered)
    found = Outline(text)
    assert "<svg" not in text and "pip install graftwork[reports]" in text and not found.open
    assert found.sorts == whole.sorts  # what the fusions look at too, as numbers
    assert [head for head in whole.heads if head not in found.heads] == [
        "rte: its trainings",
        "mrpc: its trainings",
        "wmt: a source",
    ]
