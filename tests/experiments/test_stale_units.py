"""A run whose data, base or files are no longer those that it was made with: named, refused, and made anew when asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import graftwork as gw
from graftwork.experiments import Recipe, Unit, Watcher, run
from graftwork.inference import Predictor
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")
ALL = ["adapter/a/0", "adapter/b/0", "fusion/a/0"]


class Begun(Watcher):
    """Remembers what was trained."""

    def __init__(self) -> None:
        self.units: list[str] = []

    def begun(self, unit: Unit, resumed: bool) -> None:
        self.units.append(unit.id)


def go(folder: Path, **options: Any) -> tuple[list[str], dict[str, Any]]:
    """Run the recipe of a folder; gives what was trained, and the results."""
    watcher = Begun()
    results = run(Recipe.read(folder / "recipe.toml"), folder / "run", root=folder, watcher=watcher, **options)
    return watcher.units, results


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny(folder, SHORT)
    assert go(folder)[0] == ALL
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """The whole of it, for a test to change."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def swap_labels(folder: Path) -> None:
    path = folder / "b" / "train.jsonl"
    path.write_text(path.read_text().replace("pos", "?").replace("neg", "pos").replace("?", "neg"))


def cut(folder: Path) -> None:
    path = folder / "b" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))


def other_base(folder: Path) -> None:
    path = folder / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.1.output.dense.weight"][3, 4] += 0.5
    save_file(tensors, path, {"format": "pt"})


def other_words(folder: Path) -> None:
    path = folder / "base" / "tokenizer.json"
    told = json.loads(path.read_text())
    words = told["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    path.write_text(json.dumps(told))


def delete_adapter(folder: Path) -> None:
    shutil.rmtree(folder / "run" / "units" / "adapter" / "b" / "0" / "adapter")


def delete_unit(folder: Path) -> None:
    shutil.rmtree(folder / "run" / "units" / "adapter" / "b")


def damage_adapter(folder: Path) -> None:
    path = folder / "run" / "units" / "adapter" / "b" / "0" / "adapter" / "adapter.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def damage_result(folder: Path) -> None:
    (folder / "run" / "units" / "adapter" / "b" / "0" / "result.json").write_text("{")


OVER_B = ["adapter/b/0", "fusion/a/0"]
CHANGES: list[tuple[Callable[[Path], None], str, list[str]]] = [
    (
        swap_labels,
        r"adapter/b/0: the rows of 'b' have changed\n  fusion/a/0: adapter/b/0, which it depends on, does not",
        OVER_B,
    ),
    (cut, r"adapter/b/0: the rows of 'b' have changed", OVER_B),
    (other_base, r"adapter/a/0: the base 'base' has changed\n", ALL),
    (other_words, r"adapter/a/0: the tokenizer of 'base' has changed\n", ALL),
    (delete_adapter, r"adapter/b/0: its adapter/adapter\.safetensors is gone", OVER_B),
    (delete_unit, r"fusion/a/0: adapter/b/0, which it depends on, is not there", OVER_B),
    (damage_adapter, r"adapter/b/0: its adapter/adapter\.safetensors has changed", OVER_B),
    (damage_result, r"adapter/b/0: .*result\.json is damaged", OVER_B),
]


@pytest.mark.parametrize(("change", "said", "anew"), CHANGES, ids=[change.__name__ for change, _, _ in CHANGES])
def test_what_no_longer_fits_is_named_and_made_anew_when_asked(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], said: str, anew: list[str]
) -> None:
    change(folder)
    before = {path: path.read_bytes() for path in (folder / "run" / "units").rglob("*") if path.is_file()}
    with pytest.raises(gw.RecipeError, match=rf"{said}(.|\n)*--redo"):
        go(folder)
    assert all(path.read_bytes() == data for path, data in before.items())
    if change in (cut, other_words, damage_adapter):
        return  # as the ones beside them
    trained, results = go(folder, redo=True)
    assert trained == anew and results["complete"]
    assert go(folder) == ([], results)
    if change is swap_labels:
        shutil.rmtree(folder / "run")
        whole = go(folder)[1]  # as if it had been so from the start
        for one, other in zip(results["units"], whole["units"], strict=True):
            assert {**one, "timings": {}} == {**other, "timings": {}}


def test_what_was_begun_on_other_rows_is_refused_too(folder: Path) -> None:
    shutil.rmtree(folder / "run")
    recipe = folder / "recipe.toml"
    recipe.write_text(SHORT.replace("epochs = 1", "epochs = 3"))

    class Stop(Watcher):
        def logged(self, unit: Unit, epoch: float, values: Any) -> None:
            if unit.id == "adapter/b/0" and epoch == 2 and "eval_score" in values:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Recipe.read(recipe), folder / "run", root=folder, watcher=Stop())
    assert list((folder / "run").rglob("checkpoint-*/finished"))
    swap_labels(folder)
    with pytest.raises(
        gw.RecipeError, match=r"1 training of .* does not fit(.|\n)*adapter/b/0: the rows of 'b' have changed"
    ):
        go(folder)
    assert go(folder, redo=True)[0] == OVER_B


def test_another_version_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"were made with torch .* \(now 99\.0\)"):
        assert go(folder)[0] == []


def test_a_run_that_does_not_say_what_it_was_made_with_is_a_warning(folder: Path) -> None:
    for path in (folder / "run").rglob("made_with.json"):
        path.unlink()
    for leftover in ("checkpoints/checkpoint-3", "steps/0"):
        (folder / "run" / "units" / "adapter" / "a" / "0" / leftover).mkdir(parents=True)
    (folder / "run" / ".results.json.graftwork.0123.new").write_text("half")
    with pytest.warns(UserWarning, match=r"3 finished trainings of .*, such as adapter/a/0, do not say"):
        assert go(folder)[0] == []
    assert not list((folder / "run").rglob("checkpoint-*")) and not list((folder / "run").rglob("*.new"))


def test_rows_of_a_moved_recipe_fit(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")
    assert go(moved)[0] == []


def test_what_was_compared_goes_with_what_is_made_anew(folder: Path) -> None:
    for name in ("comparison.json", "costs.json"):
        (folder / "run" / name).write_text("{}")
    swap_labels(folder)
    go(folder, redo=True)
    assert not (folder / "run" / "comparison.json").exists() and not (folder / "run" / "costs.json").exists()


def test_predictions_with_another_tokenizer_are_warned_of(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    Predictor(folder / "run", "a", root=folder)
    assert not [w for w in recwarn if "tokenizer" in str(w.message)]
    other_words(folder)
    with pytest.warns(UserWarning, match="the tokenizer of 'base' has changed since fusion/a/0 was trained"):
        Predictor(folder / "run", "a", root=folder)
