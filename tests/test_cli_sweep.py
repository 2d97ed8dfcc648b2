"""The command of a sweep: what it prints, what it leaves in its folder, and that its best recipe runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.command import call, refused
from tests.support.tiny_run import RECIPE, make_tiny

pytest.importorskip("optuna")
SMALL = "fuse = false\ncontrols = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), SMALL + '\n[methods.small]\nmethod = "pfeiffer"\n')


@pytest.mark.slow
def test_it_says_each_trial_and_the_best_and_what_to_do_next(recipe: Path) -> None:
    out = recipe.parent / "sweep"
    told = call("sweep", recipe, "--over", "methods.small.reduction_factor=4,8", "--out", out)
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert "trial 0000 (1 of 2): methods.small.reduction_factor = 4" in lines
    ended = [
        line for line in lines if re.fullmatch(r"trial 000\d: accuracy 0\.\d{4} on the dev rows; best so far: .*", line)
    ]
    assert len(ended) == 2 and lines.count("Data") == 1
    assert "Trials of small on a" in lines and f"  graftwork run {out / 'best.toml'}" in lines
    assert (out / "sweep.txt").read_text().strip() in told.stdout
    assert (out / "sweep.png").read_bytes()[:4] == b"\x89PNG"
    again = call("sweep", recipe, "--over", "methods.small.reduction_factor=4,8", "--out", out)
    assert again.exit_code == 0 and "trial 0000 (1" not in again.stdout and "Trials of small on a" in again.stdout
    ran = call("run", out / "best.toml", "--out", recipe.parent / "best")
    assert ran.exit_code == 0 and "All 1 trainings are done." in ran.stdout
    shown = call("show", out / "trials" / "0000", "--no-plots")
    assert shown.exit_code == 0 and "All 1 trainings are done." in shown.stdout


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (["training.epochs"], "--over training.epochs: give each key once, as KEY=VALUES"),
        (["training.epochs=1,2", "training.epochs=2,3"], "give each key once"),
        (["training.epoch=1,2"], "did you mean 'epochs'"),
        (["training.epochs=2"], "is not two different values or more"),
    ],
)
def test_what_cannot_be_swept_over_is_refused_in_a_line(
    recipe: Path, tmp_path: Path, over: list[str], said: str
) -> None:
    words = [word for one in over for word in ("--over", one)]
    assert said in refused(call("sweep", recipe, *words, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
