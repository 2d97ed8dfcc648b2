"""Every kind of task with its head, through the whole job: trained, fused, saved, and predicted from files."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from graftwork.experiments import Recipe, run
from graftwork.heads import heads
from graftwork.inference import Predictor
from graftwork.tasks import Task, kinds
from tests.support.tiny_tasks import BASES, ROWS, tokenizer


def prepare(kind: str, folder: Path) -> Recipe:
    """A base of the class that the kind needs, and two tasks of the same rows in another order."""
    torch.manual_seed(0)
    make = getattr(transformers, kinds[kind].auto)
    make.from_config(BASES[kind]().config).save_pretrained(folder / "base")
    if kinds[kind].processor == "tokenizer":
        tokenizer().save_pretrained(folder / "base")
    for name, rows in (("one", ROWS[kind]), ("two", ROWS[kind][::-1])):
        (folder / name).mkdir()
        for split in ("train", "dev"):
            (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"kind": kind, **({"max_new_tokens": 4} if kinds[kind].generates else {})}
    return Recipe.make(
        {
            "base": {"model": "base", "max_length": 48},
            "tasks": {name: {**spec, "data": name} for name in ("one", "two")},
            "targets": ["one"],
            "controls": [],
            "adapter": {"method": "houlsby", "bottleneck_size": 4, "norms": "base"},
            "training": {"epochs": 2, "batch_size": 2, "learning_rate": 1e-2},
        }
    )


@pytest.mark.parametrize("kind", kinds)
def test_what_is_trained_is_predicted_from_its_files(kind: str, tmp_path: Path) -> None:
    recipe = prepare(kind, tmp_path)
    results = run(recipe, tmp_path / "run", root=tmp_path)
    units = {unit["unit"]: unit for unit in results["units"]}
    assert set(units) == {"adapter/one/0", "adapter/two/0", "fusion/one/0"}
    for unit in units.values():
        assert len(unit["curves"]["loss"]) >= 2 and unit["attention" if unit["kind"] == "fusion" else "scores"]
    task = Task.read("one", recipe.tasks["one"], tmp_path)
    for wanted in ("adapter", "fusion"):
        predictor = Predictor(tmp_path / "run", kind=wanted)
        predictions = predictor.predict(task.dev)
        assert task.score(predictions, task.dev) == pytest.approx(units[f"{wanted}/one/0"]["scores"]["dev"], abs=1e-5)
        json.dumps([prediction.to_dict() for prediction in predictions])


@pytest.mark.parametrize("method", ["pal", "k_adapter", "loreft"])
def test_a_method_that_mixes_positions_generates_in_training_and_from_its_files(method: str, tmp_path: Path) -> None:
    small = {"pal": {"size": 8, "heads": 2}, "k_adapter": {"size": 8, "heads": 2, "inner": 16}, "loreft": {"first": 2}}
    given = prepare("text_to_text", tmp_path).model_dump(exclude_unset=True, mode="json")
    changes = {"targets": ["one"], "fuse": False, "controls": [], "methods": {method: small[method]}}
    recipe = Recipe.make({**given, **changes})
    results = run(recipe, tmp_path / "run", root=tmp_path)
    (unit,) = results["units"]
    task = Task.read("one", recipe.tasks["one"], tmp_path)
    predictions = Predictor(tmp_path / "run", kind=method).predict(task.dev)
    assert task.score(predictions, task.dev) == pytest.approx(unit["scores"]["dev"], abs=1e-5)


def test_every_head_has_a_kind_of_task() -> None:
    made = set()
    for kind in kinds:
        task = Task.from_rows("t", Recipe.make(_only(kind)).tasks["t"], train=ROWS[kind], dev=ROWS[kind])
        made.add(task.head().kind)
    assert made == set(heads())


def _only(kind: str) -> dict:
    return {"base": {"model": "base"}, "tasks": {"t": {"kind": kind}}}
