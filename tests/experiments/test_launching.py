"""Workers that Ray or submitit starts make the table of `graftwork run`; what they cannot give is refused first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import graftwork as gw
from graftwork.experiments import Recipe, launch, read_results, run
from tests.experiments.test_kills import untimed
from tests.experiments.test_workers import Failing, weights
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    recipe = make_tiny(tmp_path_factory.mktemp("whole"), SHORT)
    return recipe, run(Recipe.read(recipe), recipe.parent / "whole", root=recipe.parent)


def command(recipe: Path, out: Path, *words: str) -> str:
    """What the command prints."""
    told = [sys.executable, "-m", "graftwork", "run", str(recipe), "--out", str(out), *words]
    done = subprocess.run(told, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_tasks_of_ray_make_the_same_table(whole: Any) -> None:
    pytest.importorskip("ray")
    recipe, expected = whole
    out = recipe.parent / "ray"
    said = command(recipe, out, "--on", "ray", "--workers", "2")
    assert untimed(read_results(out)) == untimed(expected) and weights(out) == weights(recipe.parent / "whole")
    assert "fusion of all 2" in said and "All 3 trainings are done." in said


@pytest.mark.slow
def test_two_jobs_of_submitit_make_the_same_table(whole: Any) -> None:
    pytest.importorskip("submitit")
    recipe, expected = whole
    out = recipe.parent / "slurm"
    said = command(recipe, out, "--on", "slurm:local", "--workers", "2", "--hours", "0.5")
    assert untimed(read_results(out)) == untimed(expected) and weights(out) == weights(recipe.parent / "whole")
    assert "fusion of all 2" in said


@pytest.mark.slow
def test_what_fails_in_a_job_is_named_here(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    recipe = make_tiny(tmp_path, SHORT)
    base = tmp_path / "base" / "model.safetensors"
    tensors = load_file(base)
    tensors["encoder.layer.0.output.dense.weight"][:] = float("nan")
    save_file(tensors, base, {"format": "pt"})
    watcher = Failing()
    with pytest.raises(gw.TrainingError, match="adapter/a/0: TrainingError: the loss"):
        launch(Recipe.read(recipe), tmp_path / "run", "slurm:local", root=tmp_path, watcher=watcher)
    assert any(line.startswith("failed adapter/a/0: TrainingError: the loss") for line in watcher.told)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["failed"]


@pytest.mark.parametrize(
    ("on", "options", "said"),
    [
        ("rai", {}, "on is 'rai'; it begins with ray or slurm"),
        ("ray", {"workers": 0}, "workers is 0"),
        ("ray", {"gpus_per_unit": -1}, "gpus_per_unit is -1"),
        ("ray", {"gpus_per_unit": 1.5}, "a part of one GPU, or whole ones"),
        ("slurm:local", {"gpus_per_unit": 0.25}, "Slurm gives whole GPUs"),
        ("slurm", {}, "no srun"),
    ],
)
def test_what_an_engine_cannot_give_is_refused_first(
    tmp_path: Path, on: str, options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # without Slurm
    with pytest.raises(gw.errors.ConfigError, match=said):
        launch(Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run", on, root=tmp_path, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("on", "extra"), [("ray", "ray"), ("slurm", "slurm")])
def test_an_engine_that_is_not_installed_names_its_extra(
    tmp_path: Path, on: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"ray": "ray", "slurm": "submitit"}[on], None)
    with pytest.raises(gw.errors.ConfigError, match=rf"pip install 'graftwork\[{extra}\]'"):
        launch(Recipe.read(make_tiny(tmp_path, SHORT)), tmp_path / "run", on, root=tmp_path)
