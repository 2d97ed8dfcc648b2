"""A run whose folder was moved, and paths that no file can have: a local base is looked for where it was, never on the Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import graftwork as gw
from graftwork.cli import app
from graftwork.experiments import Recipe, run
from graftwork.experiments.running.base import find_model
from graftwork.experiments.running.hashes import hash_base, hash_tokenizer
from graftwork.inference import Predictor, Several, predictor_for
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = RECIPE.replace("epochs = 3", "epochs = 1").replace('targets = ["a"]', "")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    run(Recipe.read(make_tiny(folder, SHORT)), folder / "run", root=folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Recipe, base, data and run at another place."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_run_at_another_depth_finds_the_base_where_it_was(finished: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(finished / "run", tmp_path / "one" / "more" / "run"))
    (answer,) = Predictor(moved, "a").predict([{"text": "good film"}])
    assert answer == Predictor(finished / "run", "a").predict([{"text": "good film"}])[0]


def test_a_base_that_is_gone_is_named_with_where_it_was_looked_for(
    folder: Path, finished: Path, tmp_path: Path
) -> None:
    run(Recipe.read(folder / "recipe.toml"), folder / "run", root=folder)  # which says where it is now
    (folder / "base").rename(folder / "elsewhere")
    moved = (folder / "run").rename(tmp_path / "run")
    said = rf"trained on the base 'base', a folder beside its recipe, which is not in {tmp_path}.* and in {folder}; put it there"
    for ask in (
        lambda: Predictor(moved, "a"),
        lambda: Several(moved, ["a", "b"]),
        lambda: predictor_for(moved, ["good film"]),
    ):
        with pytest.raises(gw.RecipeError, match=said):
            ask()
    with pytest.raises(gw.RecipeError, match=rf"not in {tmp_path}; put it there"):
        Predictor(moved, "a", root=tmp_path)
    with pytest.raises(gw.RecipeError, match=rf"not in {folder}; put it there"):
        run(Recipe.read(folder / "recipe.toml"), moved, root=folder)
    called = ["predict", str(moved), "--task", "a", "good film"]
    asked = CliRunner().invoke(app, called)
    assert asked.exit_code == 1 and "graftwork predict --root FOLDER" in " ".join(asked.stderr.split())
    assert CliRunner().invoke(app, [*called, "--root", str(finished)]).exit_code == 0


def test_a_run_of_a_version_that_did_not_say_so_is_read(folder: Path) -> None:
    (folder / "run" / ".root").write_text("..")
    assert Predictor(folder / "run", "a").predict([{"text": "good film"}])
    (folder / "run" / ".root").write_text('{"root": 3}')
    with pytest.raises(gw.RecipeError, match=r"\.root is damaged \(root: Input should be a valid string"):
        Predictor(folder / "run", "a")


@pytest.mark.parametrize("name", ["./base", "../base", "/nowhere/base", "a/b/c", "~/no/base"])
def test_what_can_only_be_a_folder_is_not_looked_for_on_the_hub(tmp_path: Path, name: str) -> None:
    with pytest.raises(gw.RecipeError, match=r"is not there: .* has no config\.json"):
        find_model(name, tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800", "x" * 300 + "/y", "os.path", "__main__", ""])
def test_a_name_that_no_base_can_have_is_refused(tmp_path: Path, name: str) -> None:
    recipe = make_tiny(tmp_path, SHORT)
    strange = Recipe.read(recipe)
    strange = strange.model_copy(update={"base": strange.base.model_copy(update={"model": name})})
    with pytest.raises(gw.RecipeError):
        run(strange, tmp_path / "run", root=tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800"])
def test_a_folder_that_cannot_be_is_refused(finished: Path, name: str) -> None:
    with pytest.raises(gw.RecipeError, match="give another --out"):
        run(Recipe.read(finished / "recipe.toml"), finished / name, root=finished)


def test_no_module_is_imported_to_find_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_model("evil.model", tmp_path) == "evil.model" and find_model("evil", tmp_path) == "evil"


def test_a_base_of_the_hub_is_known_by_the_files_of_its_snapshot(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.read(finished / "recipe.toml")
    table = recipe.base.model_copy(update={"model": "someone/base"})
    monkeypatch.setattr(
        "graftwork.experiments.running.hashes.cached_file", lambda name, file, revision: str(finished / "base" / file)
    )
    assert hash_base(table, tmp_path) == hash_base(recipe.base, finished) is not None
    assert hash_tokenizer(table, tmp_path) == hash_tokenizer(recipe.base, finished)
    (tmp_path / "config.json").write_text("{}")  # a snapshot of which the weights are not there yet
    assert hash_base(recipe.base.model_copy(update={"model": str(tmp_path)}), finished) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\ud800", "has no '\\\\ud800'"),
        ("a\0", "has no '\\\\x00'"),
        ("a\x1b[2J", "has no '\\\\x1b'"),
        ("a\u2028", "has no '\\\\u2028'"),
        ("a/b", "has no '/'"),
        ("x" * 300, "it has 300 bytes; give one of 100 or fewer"),
        ("日" * 40, "it has 120 bytes"),
        (" a", "without spaces around it"),
        ("a.", "no dot at its ends"),
        ("fusion-a", "what is made for another task is called so"),
        ("a@1", "what is made for another task is called so"),
    ],
)
@pytest.mark.parametrize("table", ["tasks", "methods", "languages", "knowledge"])
def test_a_name_that_could_not_be_saved_is_refused_before_anything_is_trained(table: str, name: str, said: str) -> None:
    tables = {
        "tasks": {"data": "x"},
        "methods": {"method": "houlsby"},
        "languages": {"text": "x.txt"},
        "knowledge": {"triples": "x.tsv"},
    }
    recipe = {
        "base": {"model": "base"},
        "tasks": {"a": {"data": "a"}},
        "targets": ["a"],
        "fuse": False,
        "controls": ["head"],
    }
    recipe[table] = {**recipe.get(table, {}), name: tables[table]}  # type: ignore[dict-item]
    if table == "methods" and "another task" in said:
        return  # it is never the name of an adapter
    with pytest.raises(gw.RecipeError, match=said):
        Recipe.make(recipe)


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(gw.RecipeError, match=r"seeds\.0: Input should be"):
        Recipe.make({"base": {"model": "base"}, "tasks": {"a": {"data": "a"}}, "seeds": [seed]})
