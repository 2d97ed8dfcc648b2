"""The page on exports: its command writes a folder, and its example predicts with that folder what the run predicts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graftwork.cli import app
from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor
from tests.support.tiny_run import RECIPE, make_tiny

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
TEXTS = ("a nice film", "bad")  # of the example


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the page's names."""
    folder = tmp_path_factory.mktemp("exported")
    text = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 2")
    text = text.replace('targets = ["a"]', 'targets = ["rte"]').replace("[tasks.a]", "[tasks.rte]")
    run(Recipe.read(make_tiny(folder, text)), folder / "runs" / "recipe", root=folder)
    return folder


def test_the_command_and_the_example(
    done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(done)
    command = next(line for line in PAGE.splitlines() if line.startswith("graftwork export"))
    told = call(*shlex.split(command)[1:])
    assert told.exit_code == 0, told.output
    assert "logits (batch, 2)" in told.stdout and "largest difference from the model" in told.stdout
    example = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "onnxruntime" in block)
    capsys.readouterr()
    exec(compile(example, "docs/export.md", "exec"), {})
    expected = Predictor(done / "runs" / "recipe", "rte").predict([{"text": text} for text in TEXTS])
    assert capsys.readouterr().out.strip() == repr([one.value for one in expected])


def test_what_cannot_be_is_one_line(done: Path) -> None:
    told = call("export", str(done / "runs" / "recipe"), "--task", "rta", "--to", str(done / "new"))
    assert told.exit_code == 1 and "'rta' is no task of this run" in told.stderr
    told = call(
        "export", str(done / "runs" / "recipe"), "--task", "rte", "--to", str(done / "rte"), "--format", "tflite"
    )
    assert told.exit_code == 1 and told.stderr.startswith("export: format is 'tflite'")
    told = call("export", str(done / "runs" / "recipe"), "--task", "rte", "--to", str(done / "base"))
    assert told.exit_code == 1 and "holds something else" in told.stderr
    assert not (done / "new").exists() and not (done / "rte").exists()
