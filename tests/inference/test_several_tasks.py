"""Several tasks over one text in one pass answer as each does by itself."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graftwork.cli import app
from graftwork.errors import RecipeError, TaskError
from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor, Several
from graftwork.tasks import Prediction
from tests.support.tiny_run import RECIPE, WORDS, make_tiny

NAMES = """
[tasks.names]
kind = "tagging"
data = "names"
"""
TEXT = "good the film"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose target has a fusion, and a task that tags words with an adapter alone."""
    folder = tmp_path_factory.mktemp("several")
    text = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 2") + NAMES
    recipe = make_tiny(folder, text)
    draw = random.Random(3)
    (folder / "names").mkdir()
    for split, count in (("train", 40), ("dev", 12)):
        sentences = [[draw.choice(WORDS) for _ in range(draw.randint(3, 9))] for _ in range(count)]
        rows = [{"tokens": s, "tags": ["B-X" if w == "film" else "O" for w in s]} for s in sentences]
        (folder / "names" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(Recipe.read(recipe), folder / "run", root=folder)
    return folder / "run"


def alike(one: Prediction, other: Prediction) -> None:
    assert one.value == other.value
    if isinstance(one.probabilities, dict):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_each_answers_as_it_does_alone(trained: Path) -> None:
    """A fusion over sentences and an adapter over words, rows of other lengths, batches of two and of all."""
    rows = [
        {"text": t, "tokens": t.split()} for t in (TEXT, "nice", "a film was not very good the actor", "awful plot")
    ]
    together = Several(trained, ["a", "names"])
    assert [unit.kind for unit in together.units.values()] == ["fusion", "adapter"]
    alone = {task: Predictor(trained, task).predict(rows) for task in ("a", "names")}
    for size in (2, 32):
        found = together.predict(rows, batch_size=size)
        assert len(found) == len(rows)
        for n, answer in enumerate(found):
            assert list(answer) == ["a", "names"]
            for task in answer:
                alike(answer[task], alone[task][n])
    assert together.predict([]) == []


def test_from_the_command_line(trained: Path) -> None:
    ran = CliRunner().invoke(app, ["predict", str(trained), "--tasks", "a, names", TEXT])
    assert ran.exit_code == 0, ran.output
    (line,) = ran.stdout.splitlines()
    found = json.loads(line)
    assert list(found) == ["a", "names"]
    assert found["a"]["value"] == Predictor(trained, "a").predict([{"text": TEXT}])[0].to_dict()["value"]


def test_rows_of_a_file_need_the_columns_of_all_tasks(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": TEXT, "tokens": TEXT.split()}) + "\n" + json.dumps({"text": TEXT}) + "\n")
    ran = CliRunner().invoke(app, ["predict", str(trained), "--tasks", "a,names", "--file", str(path)])
    assert ran.exit_code == 1 and not ran.stdout
    assert "tokens" in ran.stderr and "line 2" in ran.stderr.replace(":2", " line 2")
    path.write_text(path.read_text().splitlines()[0] + "\n")
    ran = CliRunner().invoke(app, ["predict", str(trained), "--tasks", "a,names", "--file", str(path)])
    assert [list(json.loads(line)) for line in ran.stdout.splitlines()] == [["line", "a", "names"]]


def test_what_cannot_be_asked_together_is_refused(trained: Path) -> None:
    with pytest.raises(RecipeError, match="two or more, each once"):
        Several(trained, ["a"])
    with pytest.raises(RecipeError, match="two or more, each once"):
        Several(trained, ["a", "a"])
    with pytest.raises(RecipeError, match="'c' is no task of this run; there are a, b, names"):
        Several(trained, ["a", "c"])
    with pytest.raises(TaskError):
        Several(trained, ["a", "names"]).typed([])
    ran = CliRunner().invoke(app, ["predict", str(trained), "--tasks", "a,names", "--task", "a", TEXT])
    assert ran.exit_code == 1 and "leave --task, --kind and --language out" in ran.stderr
