"""A recipe's adapters trained several at a time: the same as one after another, resumed, and refused where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe, Unit, Watcher, plan, run
from graftwork.inference import Predictor
from tests.experiments.test_kills import untimed
from tests.support.tiny_run import RECIPE, make_tiny

# a third task, with fewer rows and without patience, so that the three end at different steps
RECIPE_OF_THREE = (
    "together = TOGETHER\ncontrols = []\nseeds = [0, 1]\n"
    + RECIPE.replace("[training]", '[tasks.c]\ndata = "b"\nrows = 20\npooling = "mean"\n\n[training]')
).replace("copies = 2\n", "")


def made(folder: Path, together: int, text: str = RECIPE_OF_THREE) -> tuple[Recipe, Path]:
    """A recipe of three tasks over a base without dropout."""
    path = make_tiny(folder, text.replace("TOGETHER", str(together)))
    config = folder / "base" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}))
    return Recipe.read(path), path.parent


class Seen(Watcher):
    """Writes down every message; stops the run where it is asked to."""

    def __init__(self, stop: str | None = None) -> None:
        self.events: list[str] = []
        self.stop = stop

    def _see(self, what: str) -> None:
        self.events.append(what)
        if what == self.stop:
            raise KeyboardInterrupt

    def begun(self, unit: Unit, resumed: bool) -> None:
        self._see(f"{'resumed' if resumed else 'begun'} {unit.id}")

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        assert 1 <= step <= steps
        self._see(f"stepped {unit.id} {step}")

    def logged(self, unit: Unit, epoch: float, values: Any) -> None:
        if "eval_score" in values:
            assert {"eval_accuracy", "eval_score"} <= set(values)
            self._see(f"scored {unit.id} {epoch:.0f}")

    def ended(self, unit: Unit, result: Any) -> None:
        self._see(f"ended {unit.id}")


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    recipe, root = made(tmp_path_factory.mktemp("apart"), 1)
    return run(recipe, root / "out", root=root), root / "out"


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Seen]:
    recipe, root = made(tmp_path_factory.mktemp("at_once"), 8)
    seen = Seen()
    return run(recipe, root / "out", root=root, watcher=seen), root / "out", seen


def weights(out: Path, unit: str) -> dict[str, Any]:
    (file,) = (out / "units" / unit / "adapter").glob("*.safetensors")
    return load_file(file)


def test_the_results_are_those_of_one_after_another(apart, at_once) -> None:
    alone = {unit["unit"]: unit for unit in apart[0]["units"]}
    assert [unit["unit"] for unit in at_once[0]["units"]] == list(alone)
    for unit in at_once[0]["units"]:
        other = alone[unit["unit"]]
        for key in ("epochs", "steps", "best_epoch", "trained_weights", "file_bytes", "members"):
            assert unit[key] == other[key], (unit["unit"], key)
        assert unit["score"] == pytest.approx(other["score"], abs=0.051)  # one row of twenty may tip over
        assert [epoch for epoch, _ in unit["curves"]["score"]] == [epoch for epoch, _ in other["curves"]["score"]]
    for unit in ("adapter/a/0", "adapter/b/0", "adapter/c/0", "adapter/a/1"):
        one, other = weights(apart[1], unit), weights(at_once[1], unit)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert float((other[key] - value).abs().max()) < 2e-4, (unit, key)


def test_one_seed_is_a_pass_and_each_unit_says_its_company(at_once) -> None:
    results, out, seen = at_once
    told = {unit["unit"]: unit.get("together") for unit in results["units"]}
    joined = ["adapter/a/0", "adapter/b/0", "adapter/c/0"]
    assert [told[unit] for unit in joined] == [joined] * 3
    assert told["adapter/a/1"] is None and told["fusion/a/0"] is None  # alone of its seed; and no adapter
    assert seen.events[:3] == [f"begun {unit}" for unit in joined]
    assert seen.events[3:6] == [f"stepped {unit} 1" for unit in joined]
    assert [event for event in seen.events if event.startswith("ended")][:3] == [f"ended {unit}" for unit in joined]
    assert not (out / "together").exists()
    predictor = Predictor(out, "b", kind="adapter")
    assert len(predictor.predict([{"text": "a good film"}, {"text": "awful"}])) == 2


@pytest.mark.parametrize(
    "stop", ["scored adapter/c/0 1", "scored adapter/a/0 2", "ended adapter/b/0", "ended adapter/c/0"]
)
def test_interrupted_it_goes_on_in_the_same_company(at_once, tmp_path: Path, stop: str) -> None:
    recipe, root = made(tmp_path, 8)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, root / "out", root=root, watcher=Seen(stop))
    again = Seen()
    found = run(recipe, root / "out", root=root, watcher=again)
    expected = {unit["unit"]: unit for unit in at_once[0]["units"]}
    for unit in found["units"]:
        assert untimed(unit) == untimed(expected[unit["unit"]])
    for unit in ("adapter/a/0", "adapter/b/0", "adapter/c/0"):
        for key, value in weights(at_once[1], unit).items():
            assert weights(root / "out", unit)[key].equal(value), (unit, key)
    assert not (root / "out" / "together").exists()
    if stop == "ended adapter/b/0":  # its weights were found, and only what was not written is measured again
        assert "resumed adapter/c/0" in again.events and "resumed adapter/a/0" not in again.events
        assert not any(event.startswith("stepped adapter/") and event.endswith("/0 1") for event in again.events)


def test_no_pass_has_more_units_than_asked_for(tmp_path: Path) -> None:
    recipe, root = made(tmp_path, 2)
    found = run(recipe, root / "out", root=root)
    told = {unit["unit"]: unit.get("together") for unit in found["units"]}
    assert told["adapter/a/0"] == told["adapter/b/0"] == ["adapter/a/0", "adapter/b/0"]
    assert told["adapter/c/0"] is None and len(found["units"]) == len(plan(recipe))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("accumulation = 2", "training.accumulation is 2"),
        ("gradient_checkpointing = true", "training.gradient_checkpointing is True"),
    ],
)
def test_what_a_pass_cannot_give_is_refused_before_anything_is_read(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(RecipeError, match=f"together is 3 and {said}"):
        made(tmp_path, 3, RECIPE_OF_THREE.replace("epochs = 3", f"epochs = 3\n{line}"))
    with pytest.raises(RecipeError, match="together"):
        made(tmp_path, 0)


def test_an_adapter_of_peft_is_refused(tmp_path: Path) -> None:
    lora = 'peft = {peft_type = "LORA", r = 4}\nmethod = "peft"'
    with pytest.raises(RecipeError, match="together is 2 and the adapter is one of peft's"):
        made(tmp_path, 2, RECIPE_OF_THREE.replace("reduction_factor = 4", lora))
