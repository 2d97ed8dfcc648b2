"""Two processes that train each unit together make what one process makes; a fault in one of them ends both."""

from __future__ import annotations

import json
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, compare, launch, read_results, run
from graftwork.experiments.running.on_ranks import check_ranks
from graftwork.experiments.sweeping.sweep import sweep
from tests.experiments.test_workers import no_leftovers
from tests.support.tiny_run import WORDS, make_base, make_row

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
]
SCRIPT = Path(__file__).with_name("rank_faults.py")
LIMIT = 240  # seconds: without an end a rank has waited for one that is gone

# 33 rows in batches of 16: the last batch has fewer rows than there are ranks. Rows of b have other numbers of labels.
RECIPE = """
targets = ["a"]
controls = ["head", "mt_shared", "sequential"]
base = {model = "base", dtype = "float64", max_length = 16}
adapter = {reduction_factor = 4, dtype = "float64"}
fusion = {dtype = "float64"}
mixing = {batches = "mixed"}

[tasks.a]
data = "a"
class_weights = {pos = 3, neg = 1}

[tasks.b]
kind = "tagging"
data = "b"

[training]
epochs = 2
batch_size = 16
learning_rate = 1e-2
head = {accumulation = 2}
fusion = {learning_rate = 1e-2}
full = {learning_rate = 1e-3}
"""
# task a alone, by an adapter and by a head
SHORT = RECIPE[: RECIPE.index("[tasks.b]")] + RECIPE[RECIPE.index("[training]") :]
SHORT = "fuse = false\n" + SHORT.replace('"head", "mt_shared", "sequential"', '"head", "adapter"')


def make(folder: Path, recipe: str = RECIPE) -> Path:
    """Base, data and recipe, in which nothing is drawn in training."""
    make_base(folder / "base")
    file = folder / "base" / "config.json"
    off = dict.fromkeys(("classifier_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    file.write_text(json.dumps(json.loads(file.read_text()) | off))
    draw = random.Random(0)
    for task in ("a", "b"):
        (folder / task).mkdir()
        for split, count in (("train", 33), ("dev", 12)):
            rows: list[Any] = [make_row(draw) if task == "a" else _tagged(draw) for _ in range(count)]
            (folder / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # heads are made in torch's default dtype: each process takes float64 when it starts
    (folder / "sitecustomize.py").write_text("import torch\n\ntorch.set_default_dtype(torch.float64)\n")
    path = folder / "recipe.toml"
    path.write_text(recipe)
    return path


def _tagged(draw: random.Random) -> dict[str, list[str]]:
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, 9))]
    return {"tokens": words, "tags": ["B-X" if word in ("film", "plot", "actor") else "O" for word in words]}


def go(recipe: Path, *words: str) -> tuple[int, str]:
    """The exit code of a Python of its own, and all that it said."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join(map(str, (recipe.parent, root / "src", root)))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ACCELERATE", "PYTEST"))}
    environment = {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *words],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        env=environment,
        cwd=recipe.parent,
    )
    return done.returncode, done.stdout


def check_same(one: Path, other: Path) -> None:
    """That two runs have the same files, and in them the same results and weights up to rounding."""
    names = [{str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} for out in (one, other)]
    assert names[0] == names[1] and not no_leftovers(other)
    weights = [name for name in names[0] if name.endswith(".safetensors")]
    assert weights
    for name in weights:
        mine, theirs = load_file(one / name), load_file(other / name)
        assert mine.keys() == theirs.keys()
        for key, tensor in mine.items():
            assert torch.allclose(tensor, theirs[key], rtol=0, atol=1e-9), (name, key)
    results = [without_times(read_results(out)) for out in (one, other)]
    assert results[0] == results[1]


class _Near(float):
    """A number that equals those within 1e-9 of it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and math.isclose(self, other, rel_tol=1e-9, abs_tol=1e-9)

    __hash__ = float.__hash__


def without_times(value: Any) -> Any:
    """Results without what says how long something took, with numbers that equal those near them."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "timings" and "seconds" not in k}
    if isinstance(value, list):
        return [without_times(one) for one in value]
    return _Near(value) if isinstance(value, float) else value


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, and its run by one process in ``one``."""
    path = make(tmp_path_factory.mktemp("ranks"))
    code, said = go(path, "-m", "graftwork", "run", path.name, "--out", "one", "--plain")
    assert code == 0, said
    return path


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_ranks_make_what_one_process_makes(recipe: Path, launcher: list[str]) -> None:
    out = recipe.parent / launcher[1]
    code, said = go(recipe, *launcher, "-m", "graftwork", "run", recipe.name, "--out", out.name, "--plain")
    assert code == 0, said
    check_same(recipe.parent / "one", out)
    assert said.count("ended adapter/a/0") == 1  # one rank shows what all have done
    for unit in read_results(out)["units"]:
        log = (out / "units" / unit["unit"] / "log.txt").read_text()
        assert re.fullmatch(r"\S+ \S+ \S+ begins\n\S+ \S+ \S+ done\n", log), log


def test_a_killed_rank_ends_the_others_and_ranks_go_on_from_the_checkpoint(tmp_path: Path) -> None:
    path = make(tmp_path, SHORT)
    code, said = go(path, "-m", "graftwork", "run", path.name, "--out", "one", "--plain")
    assert code == 0, said
    code, said = go(
        path, *TORCHRUN, str(SCRIPT), "kill", "5", path.name, "two"
    )  # in the second epoch of the first unit
    assert code != 0 and "Signal 9" in said, said
    assert [*(tmp_path / "two").rglob("checkpoint-2")]
    code, said = go(path, *TORCHRUN, "-m", "graftwork", "run", path.name, "--out", "two", "--plain")
    assert code == 0 and "resumed head/a/0" in said, said
    check_same(tmp_path / "one", tmp_path / "two")


def test_an_error_in_one_rank_is_told_and_ends_all(tmp_path: Path) -> None:
    path = make(tmp_path, SHORT)
    code, said = go(path, *TORCHRUN, str(SCRIPT), "raise", "2", path.name, "two")
    assert code != 0
    assert "rank 1 of 2: ValueError: only this rank has it" in " ".join(said.split()), said
    (written,) = (tmp_path / "two").rglob("error.txt")
    assert "only this rank has it" in written.read_text()


def test_an_error_in_all_ranks_fails_that_unit_alone(tmp_path: Path) -> None:
    path = make(tmp_path, SHORT)
    code, said = go(path, *TORCHRUN, str(SCRIPT), "nan", "2", path.name, "two")
    assert code == 1 and "head/a/0: TrainingError: the loss is nan" in " ".join(said.split()), said
    done = read_results(tmp_path / "two")
    assert not done["complete"] and [one["unit"] for one in done["units"]] == ["adapter/a/0"]


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of one of two ranks."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_what_one_process_does_is_refused_by_name(ranks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = make(tmp_path)
    given = Recipe.read(path)
    for name, call in {
        "compare": lambda: compare(given, ["head"], run=tmp_path / "run", root=tmp_path),
        "on = 'slurm'": lambda: launch(given, tmp_path / "run", on="slurm", root=tmp_path),
        "sweep": lambda: sweep(given, {"training.epochs": [1, 2]}, tmp_path / "run", root=tmp_path),
    }.items():
        with pytest.raises(RecipeError, match=f"^{name} is for one process.* has started 2; call it without"):
            call()
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_ranks_cannot_train_is_refused_before_anything(ranks: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = make(tmp_path, "together = 2\n" + RECIPE)
    with pytest.raises(RecipeError, match=r"^together = 2 trains .* leave it out, or start `graftwork work`"):
        run(Recipe.read(path), tmp_path / "run", root=tmp_path)
    ranks.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match=r"configured for FSDP.*distributed_type: MULTI_GPU"):
        check_ranks(Recipe.read(path))
    assert not (tmp_path / "run").exists()


def test_commands_for_one_process_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    code, said = go(path, *TORCHRUN, "-m", "graftwork", "predict", "run", "--task", "a", "good")
    assert code != 0
    assert "graftwork predict is for one process, and torchrun or accelerate launch has started 2" in " ".join(
        said.split()
    )
