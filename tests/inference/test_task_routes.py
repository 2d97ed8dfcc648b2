"""A run finds the task that a text asks for: by what it has trained, else by what its recipe says, else it says what to do."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import BertConfig, BertModel
from typer.testing import CliRunner, Result

import graftwork as gw
from graftwork.cli import app
from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor, RunFinder, answers, predictor_for
from tests.support.tiny_run import RECIPE, WORDS, make_tiny

HALVES = {"a": WORDS[: len(WORDS) // 2], "b": WORDS[len(WORDS) // 2 :]}
TWO = "controls = []\n" + RECIPE.replace('targets = ["a"]\n', "").replace("epochs = 3", "epochs = 1")
DESCRIBED = TWO.replace('data = "a"', 'data = "a"\ndescription = "good bad fine"').replace(
    'data = "b"', 'data = "b"\nprompts = ["film was is", "plot actor scene"]'
)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def make(folder: Path, recipe: str = TWO) -> Path:
    """The tiny run, but each task's texts have words of their own."""
    path = make_tiny(folder, recipe)
    draw = random.Random(1)
    for task, words in HALVES.items():
        for split, count in (("train", 48), ("dev", 20)):
            texts = [" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(count)]
            rows = [{"text": text, "label": ("neg", "pos")[n % 2]} for n, text in enumerate(texts)]
            (folder / task / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = make(tmp_path_factory.mktemp("routing"))
    run(Recipe.read(recipe), recipe.parent / "out", root=recipe.parent)
    return recipe.parent / "out"


def copied(done: Path, to: Path) -> Path:
    shutil.copytree(done.parent, to, dirs_exist_ok=True)
    return to / done.name


def test_it_finds_the_task_of_rows_that_it_has_not_seen(done: Path) -> None:
    finder = RunFinder(done, margin=0.0)
    right = answered = 0
    for task in HALVES:
        texts = [json.loads(line)["text"] for line in (done.parent / task / "dev.jsonl").read_text().splitlines()]
        for found in finder.find(texts):
            answered += found.name is not None
            right += found.name == task
            assert sum(value for _, value in found.candidates) == pytest.approx(1)
    assert answered >= 32 and right >= answered - 1


def test_predict_without_a_task_finds_it_and_says_so_beside_the_answer(done: Path) -> None:
    said = call("predict", done, "plot actor scene actor film")
    assert said.exit_code == 0, said.stderr
    assert said.stderr.startswith("task: b (scores: 'b' 0.") and "'a' 0.0" in said.stderr
    assert json.loads(said.stdout) == json.loads(
        call("predict", done, "--task", "b", "plot actor scene actor film").stdout
    )


def test_predict_refuses_what_belongs_to_no_task_and_says_all_scores(done: Path) -> None:
    for text, why in (("good " * 7, "unlike the texts of 'a'"), ("the plot", "leads the next by less than 0.2")):
        said = call("predict", done, text)
        assert said.exit_code == 1 and said.stdout == ""
        assert "is not clear" in said.stderr and why in said.stderr and "--task NAME" in said.stderr
        assert re.search(r"scores: '[ab]' \d\.\d{3}, '[ab]' \d\.\d{3}\)", said.stderr)


def test_the_same_from_python(done: Path) -> None:
    predictor, found = predictor_for(done, ["good bad fine awful nice"])
    assert found is not None and predictor.task == found.name == "a"
    (answer,) = answers(predictor, ["good bad fine awful nice"])
    assert answer == next(answers(Predictor(done, "a"), ["good bad fine awful nice"]))
    with pytest.raises(gw.RecipeError, match=r"say which task .*; there are a, b"):
        Predictor(done)
    with pytest.raises(gw.ConfigError, match=r"margin is 1\.5"):
        RunFinder(done, margin=1.5)


def test_the_same_command_again_fits_nothing_anew(done: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    recipe, at = Recipe.read(out.parent / "recipe.toml"), out / "finder" / "finder.safetensors"
    before = at.read_bytes(), at.stat().st_mtime_ns
    run(recipe, out, root=out.parent)
    assert (at.read_bytes(), at.stat().st_mtime_ns) == before
    shutil.rmtree(out / "finder")
    run(recipe, out, root=out.parent)
    assert at.read_bytes() == before[0]


def test_prompts_may_come_later_and_are_learnt(done: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    (out.parent / "recipe.toml").write_text(DESCRIBED)
    before = json.loads((out / "finder" / "finder.json").read_text())
    run(Recipe.read(out.parent / "recipe.toml"), out, root=out.parent)
    assert json.loads((out / "finder" / "finder.json").read_text())["texts"] != before["texts"]


def test_a_run_without_a_finder_goes_by_what_its_recipe_says(done: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    shutil.rmtree(out / "finder")
    said = call("predict", out, "good")
    assert said.exit_code == 1 and "no trained finder" in said.stderr and "no description of a, b" in said.stderr
    assert "--task NAME" in said.stderr and "there are a, b" in said.stderr
    told = json.loads((out / "recipe.json").read_text())
    told["tasks"]["a"]["description"] = "good bad fine"
    told["tasks"]["b"]["prompts"] = ["film was is", "plot actor scene"]
    (out / "recipe.json").write_text(json.dumps(told))
    found = RunFinder(out).find(["plot actor scene"])[0]
    assert found.name == "b" and found.candidates[0][1] == pytest.approx(1, abs=1e-5)


def test_a_damaged_finder_is_refused_by_predict_and_made_again_by_run(done: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    at = out / "finder"
    good = {path.name: path.read_bytes() for path in at.iterdir()}
    told = json.loads(good["finder.json"])
    tensors = safetensors.torch.load(good["finder.safetensors"])
    for name, bad in {
        "finder.json": json.dumps({**told, "version": 2}).encode(),
        "finder.safetensors": safetensors.torch.save({**tensors, "bias": tensors["bias"] + 1}),
    }.items():
        (at / name).write_bytes(bad)
        with pytest.raises(gw.RecipeError, match=r"finder is damaged, or of another version .* delete it"):
            RunFinder(out)
        (at / name).write_bytes(good[name])
    for bad_json in ("[]", "{", json.dumps({**told, "more": 1}), json.dumps({**told, "tasks": ["a", "a"]})):
        (at / "finder.json").write_text(bad_json)
        with pytest.raises(gw.RecipeError, match="damaged"):
            RunFinder(out)
    (at / "finder.json").write_text(json.dumps({**told, "tensors": hashlib.sha256(b"no tensors").hexdigest()}))
    (at / "finder.safetensors").write_bytes(b"no tensors")  # and their hash
    with pytest.raises(gw.RecipeError, match="damaged"):
        RunFinder(out)
    run(Recipe.read(out.parent / "recipe.toml"), out, root=out.parent)
    assert {path.name: path.read_bytes() for path in at.iterdir()} == good


def test_a_finder_of_another_base_is_refused(done: Path, tmp_path: Path) -> None:
    out = copied(done, tmp_path)
    torch.manual_seed(1)  # the tiny base was drawn with 0
    BertModel(BertConfig.from_pretrained(out.parent / "base")).save_pretrained(out.parent / "base")
    with pytest.raises(gw.RecipeError, match="was fitted on another base"):
        RunFinder(out)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('description = " "', "tasks.a.description: an empty text describes nothing"),
        ('prompts = ["x", ""]', "tasks.a.prompts: an empty text describes nothing"),
        ('description = "Plot  actor scene"', "tasks.b: 'plot actor scene' describes 'a' too"),
    ],
)
def test_what_describes_nothing_is_refused_with_the_recipe(change: str, said: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(DESCRIBED.replace('description = "good bad fine"', change))
    with pytest.raises(gw.RecipeError, match=said):
        Recipe.read(recipe)
