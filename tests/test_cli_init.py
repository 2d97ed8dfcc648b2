"""`graftwork init`: what it says of data, the recipe that it writes, what it refuses, and what it asks."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graftwork.cli import app, starting
from graftwork.experiments import Recipe
from graftwork.tasks import Task
from tests.support.command import call, refused
from tests.support.tiny_run import make_base, make_row


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def sentences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {"text": f"{made['text']} {'good bad'.split()[n % 2]}", "label": made["label"]}
        for n in range(count)
        if (made := make_row(draw))
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_base(tmp_path / "base")
    write(
        tmp_path / "films.csv",
        [{"id": n, "review": row["text"], "mood": row["label"]} for n, row in enumerate(sentences(80))],
    )
    write(tmp_path / "plots.csv", sentences(80, 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_the_data_is_and_writes_a_recipe_that_reads_it(here: Path) -> None:
    told = call("init", "films.csv", "--base", "base")
    assert told.exit_code == 0, told.output
    assert (
        "films: classification, because 'mood' has 2 different names. Columns: text = 'review', label = 'mood'; not read: 'id'."
        in told.stdout
    )
    assert "there are 80 train rows" in told.stdout and "99 % of the train rows have" in told.stdout
    assert told.stdout.splitlines()[-3:] == [
        f"  graftwork {rest}" for rest in ("recommend recipe.toml", "run recipe.toml --dry-run", "run recipe.toml")
    ]
    recipe = Recipe.read(here / "recipe.toml")
    spec = recipe.tasks["films"]
    assert (spec.train, spec.text, spec.label) == ("films.csv", "review", "mood")
    assert recipe.targets == ("films",) and recipe.controls == ("adapter", "head") and not recipe.fuse
    task = Task.read("films", spec, here)
    assert task.held_out and recipe.base.model == "base" and recipe.base.max_length % 8 == 0
    assert (here / "recipe.toml").read_text().count("#") > 8, "it has comments"


def test_what_a_comment_offers_may_be_taken(here: Path) -> None:
    assert call("init", "films.csv", "--base", "base").exit_code == 0
    text = (here / "recipe.toml").read_text()
    offered = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE).replace(
        'metrics = ["f1", "accuracy"]', 'positive = "pos"\nmetrics = ["f1"]'
    )
    assert offered != text
    spec = Recipe.parse(offered).tasks["films"]
    assert spec.calibrate and spec.class_weights == "balanced" and spec.pooling == "mean"
    Task.read("films", spec, here)


def test_several_tasks_with_a_target_and_files_of_its_own(here: Path) -> None:
    (here / "in").mkdir()
    write(here / "dev.csv", [{"review": row["text"], "mood": row["label"]} for row in sentences(20, 2)])
    told = call(
        "init",
        "plots.csv",
        "mood=films.csv",
        "--target",
        "mood",
        "--dev",
        "dev.csv",
        "--base",
        "base",
        "--out",
        "in/r.toml",
    )
    assert told.exit_code == 0, told.output
    recipe = Recipe.read(here / "in" / "r.toml")
    assert recipe.targets == ("mood",) and [*recipe.tasks] == ["plots", "mood"] and recipe.fuse
    assert recipe.tasks["mood"].dev == "../dev.csv" and recipe.base.model == "../base"
    assert len(Task.read("mood", recipe.tasks["mood"], here / "in").dev) == 20


def test_a_recipe_is_not_replaced_without_force(here: Path) -> None:
    (here / "recipe.toml").write_text("mine")
    assert "recipe.toml is there already; give another --out, or --force" in refused(
        call("init", "films.csv", "--base", "base")
    )
    assert (here / "recipe.toml").read_text() == "mine"
    assert call("init", "films.csv", "--base", "base", "--force").exit_code == 0
    assert (here / "recipe.toml").read_text() != "mine"


def test_data_that_a_run_would_refuse_is_said_and_no_recipe_written(here: Path) -> None:
    rows = sentences(30)
    write(here / "broken.csv", [*rows, {"text": "no label here", "label": ""}])
    told = call("init", "broken.csv", "--base", "base")
    assert told.exit_code == 1 and "1 train row has nothing in 'label', at broken.csv:32" in told.stdout
    assert "broken.csv:32" in told.stderr and not (here / "recipe.toml").exists()


def test_uneven_labels_are_weighed_in_the_recipe(here: Path) -> None:
    write(here / "odd.csv", [{"text": f"film {n}", "label": "rare" if n < 9 else "usual"} for n in range(200)])
    told = call("init", "odd.csv", "--base", "base")
    assert "191 train rows are 'usual' and 9 are 'rare'" in told.stdout
    spec = Recipe.read(here / "recipe.toml").tasks["odd"]
    assert spec.class_weights == "balanced" and spec.metrics == ("macro_f1", "accuracy")


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"text": f"film {n}", "score": f"{n % 7}.5"} for n in range(40)], "regression"),
        (
            [{"text": f"film {n}", "labels": json.dumps(["a"] if n % 2 else ["a", "b"])} for n in range(40)],
            "multi_label",
        ),
        ([{"tokens": "the film", "tags": "O B-X"} for _ in range(40)], "tagging"),
    ],
)
def test_other_kinds_of_tasks(here: Path, rows: list[dict[str, Any]], kind: str) -> None:
    write(here / "t.csv", rows)
    told = call("init", "t.csv", "--base", "base")
    if kind == "tagging":  # all sentences are alike: none can be held out
        assert told.exit_code == 1 and "t: tagging, because" in told.stdout
        return
    assert told.exit_code == 0, told.output
    assert Recipe.read(here / "recipe.toml").tasks["t"].kind == kind


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nobody is asked here, and this is not given: the file or folder with your rows"),
        (["films.csv"], "this is not given: the pretrained model"),
        (["none.csv", "--base", "base"], "none.csv is not there; give a file with rows"),
        (["films.csv", "--base", "./nowhere"], "'./nowhere' is not there"),
        (["films.csv", "--base", "base", "--target", "film"], "there is no such task; there are films"),
        (["films.csv", "films.csv", "--base", "base"], "a task is called 'films' already"),
        (["films.csv", "--base", "base", "--column", "text"], "cannot be read; give a role and a column"),
        (["films.csv", "--base", "base", "--kind", "regresion"], "did you mean 'regression'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(here: Path, words: list[str], message: str) -> None:
    assert message in refused(call("init", *words)) and not (here / "recipe.toml").exists()


def test_in_a_terminal_it_asks_for_what_is_not_given(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def __getattr__(self, name: str) -> Any:
            return getattr(__import__("sys"), name)

        class stdin:
            isatty = staticmethod(lambda: True)

    monkeypatch.setattr(starting, "sys", Terminal())
    told = CliRunner().invoke(app, ["init"], input="films.csv\nbase\n")
    assert told.exit_code == 0, told.output
    assert "The file or folder with your rows" in told.stdout and Recipe.read(here / "recipe.toml").targets == (
        "films",
    )
