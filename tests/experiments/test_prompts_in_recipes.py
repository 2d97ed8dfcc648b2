"""Methods with a prefix or a prompt in a recipe, end to end: trained, saved, and predicted from files as it was scored."""

from pathlib import Path
from typing import Any

import pytest

from graftwork.experiments import Recipe, run
from graftwork.inference import Predictor
from graftwork.tasks import Task
from tests.support.tiny_run import make_tiny

pytest.importorskip("peft")

PREFIX = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}
METHODS: dict[str, dict[str, Any]] = {
    "mam": {"method": "mam", "prefix_tokens": 2, "prefix_size": 8, "bottleneck_size": 4},
    "unipelt": {"method": "unipelt", "prefix_tokens": 2, "prefix_size": 8, "lora_rank": 2},
    "prefix": {"method": "peft", "peft": PREFIX},
    "prompt": {"method": "peft", "peft": {**PREFIX, "peft_type": "PROMPT_TUNING"}},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_trains_it_and_predicts_what_was_scored(method: str, tmp_path: Path) -> None:
    make_tiny(tmp_path)
    recipe = Recipe.make(
        {
            "base": {"model": "base", "max_length": 16},
            "tasks": {"a": {"data": "a", "pooling": "mean"}},
            "targets": ["a"],
            "fuse": False,
            "controls": [],
            "methods": {"x": METHODS[method]},
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2},
        }
    )
    results = run(recipe, tmp_path / "run", root=tmp_path)
    predictor = Predictor(tmp_path / "run", "a")
    assert "x" in predictor.unit.id
    task = Task.read("a", predictor.spec, tmp_path)
    found = predictor.predict([{"text": row["text"]} for row in task.dev])
    unit = next(u for u in results["units"] if u["unit"] == predictor.unit.id)
    assert task.score(found, task.dev) == pytest.approx(unit["scores"]["dev"])
