"""What a run has trained is sent to a Hub with the run's facts on its card, and predicts the same when it is loaded again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from graftwork.cli import app
from graftwork.experiments import Recipe
from graftwork.experiments import run as run_recipe
from graftwork.experiments.running.results import read_results
from graftwork.inference import Predictor
from tests.support.hub_client import own_hub
from tests.support.hub_server import Hub
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = 'seeds = [0, 1]\ncontrols = ["head", "average"]\n' + RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make_tiny(tmp_path_factory.mktemp("tiny"), SHORT)
    run_recipe(Recipe.read(recipe), recipe.parent / "out", root=recipe.parent)
    return recipe.parent / "out"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with own_hub(tmp_path, monkeypatch) as server:
        yield server


def push(run: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["push", str(run), "--to", "org/a", *words])


def card_of(run: Path) -> str:
    return (run / "push" / "org" / "a" / "README.md").read_text(encoding="utf-8")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(2, 14).view(2, 6)).logits


def test_a_dry_run_writes_the_folder_and_asks_nothing(run: Path, hub: Hub) -> None:
    for _ in range(2):  # a second one replaces the folder
        told = push(run, "--task", "a", "--dry-run", "--base-model", "org/base", "--license", "mit", "--tag", "films")
        assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert lines[0] == f"composition of 'a', 'b', 'fusion-a', in {run / 'push' / 'org' / 'a'}:"
    assert lines[-1] == "nothing was sent; the same command without --dry-run sends these files"
    sizes = dict(line.split("  ")[1:] for line in lines[1:-1])
    written = {p.relative_to(run / "push/org/a").as_posix() for p in (run / "push/org/a").rglob("*") if p.is_file()}
    assert sizes.keys() == written and "README.md" in written and "fusions/0/fusion.safetensors" in written
    assert hub.requests == []


def test_its_card_has_the_facts_of_the_run(run: Path) -> None:
    assert push(run, "--task", "a", "--dry-run", "--base-model", "org/base", "--tag", "films").exit_code == 0
    text = card_of(run)
    data = yaml.safe_load(text.split("---\n")[1])
    (result,) = data["model-index"][0]["results"]
    row = next(r for r in read_results(run)["targets"] if r["kind"] == "fusion")
    assert result["metrics"][0] == {
        "type": "accuracy",
        "value": row["mean"],
        "name": "accuracy, mean of 2 seed(s)",
    }
    assert data["base_model"] == "org/base" and "films" in data["tags"]
    assert re.search(r"\| accuracy \| dev \| 0\.\d+ \| [\d.]+ \| 0, 1 \|", text)
    for said in ("| data | a |", "| seed of these weights | 0 |", "| what was trained | fusion, all |", "neg, pos"):
        assert said in text, said
    assert str(run.parent) not in text
    assert re.search(r"^Made with graftwork [\d.]+, torch \S+, transformers [\d.]+\.$", text, re.MULTILINE)


@pytest.mark.parametrize(("kind", "seed"), [("fusion", "0"), ("adapter", "1"), ("head", "0")])
def test_what_was_sent_computes_what_the_run_predicts(
    run: Path, hub: Hub, kind: str, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = push(run, "--task", "a", "--kind", kind, "--seed", seed, "--base-model", "org/base")
    assert told.exit_code == 0, told.output
    assert re.search(r"sent: org/a at [0-9a-f]{12}: http://127\.0\.0\.1:\d+/org/a/commit/", told.stdout)
    (code,) = re.findall(r"```python\n(import.*?)```", hub.files("org/a")["README.md"].decode(), re.DOTALL)
    predictor = Predictor(run, "a", kind=kind, seed=int(seed))
    shutil.copytree(run.parent / "base", tmp_path / "org" / "base")  # transformers finds it as the folder of that name
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert torch.equal(logits(names["model"].eval()), logits(predictor.model))
    assert names["adapters"].labels({"fusion": "fusion-a"}.get(kind, "a")).names == ("neg", "pos")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "nowhere"], "'nowhere' is no task of this run"),
        (["--task", "a", "--kind", "average"], "has a head of its own beside .*, which is not saved with it"),
        (
            ["--task", "a", "--kind", "full"],
            "full fine-tuning is measured and not kept to predict with; give another kind",
        ),
        (["--task", "a", "--to", "a"], "'a' cannot be the id of a repository of the Hub; give 'org/name'"),
        (["--task", "a", "--to", "../a"], "cannot be the id of a repository"),
        (["--task", "a", "--license", "My Own"], "give it as the Hub names it"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_a_line(run: Path, hub: Hub, words: list[str], message: str) -> None:
    told = push(run, *words)
    assert told.exit_code == 1 and re.search(message, told.stderr) and "Traceback" not in told.stderr
    assert hub.repositories == {}
