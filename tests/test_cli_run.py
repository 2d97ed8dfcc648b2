"""The commands of a run: what they print, where they write, and their exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from graftwork.cli import app
from graftwork.experiments import Recipe
from graftwork.report import Live
from tests.support.command import call, refused
from tests.support.tiny_run import RECIPE, make_tiny

SHORT = "controls = []\n" + RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"), SHORT)


@pytest.fixture(scope="module")
def out(recipe: Path) -> Path:
    return recipe.parent / "out"


@pytest.fixture(scope="module")
def first(recipe: Path, out: Path) -> Result:
    return call("run", recipe, "--out", out)


def test_a_run_tells_what_it_does_and_where_things_are(first: Result, out: Path) -> None:
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0] == "Data" and lines[4].split()[:3] == ["a", "48", "20"]
    assert any(re.fullmatch(r"b: labels: 0 = 'neg' \(\d+\.\d %\), 1 = 'pos' \(\d+\.\d %\)", line) for line in lines)
    begun = lines.index("3 trainings, 0 of them done already")
    assert lines[begun + 1] == "begun adapter/a/0 (1 of 3)"
    assert any(re.fullmatch(r"  fusion/a/0 epoch 1 of 1: accuracy \d+\.\d %.*", line) for line in lines)
    assert any(line.startswith("ended fusion/a/0: accuracy") for line in lines)
    assert any(line.startswith("fusion of all 2") for line in lines)
    assert "All 3 trainings are done." in lines
    assert f"  {out}: results.md, results.txt" in lines
    after = lines[lines.index("Next:") + 1 :]
    assert after == [f"  graftwork show {out}", f'  graftwork predict {out} --task a "<text>"']
    assert (out / "plots" / "attention-a.png").is_file()
    assert all(character.isprintable() for line in lines for character in line)


def test_the_same_command_again_trains_nothing(first: Result, recipe: Path, out: Path) -> None:
    again = call("run", recipe, "--out", out)
    assert again.exit_code == 0 and "3 trainings, 3 of them done already" in again.stdout
    assert "begun" not in again.stdout and "fusion of all 2" in again.stdout


def test_a_worker_that_finds_all_done_shows_it(first: Result, out: Path) -> None:
    joined = call("work", out)
    assert joined.exit_code == 0 and "3 trainings, 3 of them done already" in joined.stdout
    assert "begun" not in joined.stdout and "fusion of all 2" in joined.stdout


def test_what_no_worker_can_do_is_refused(recipe: Path, tmp_path: Path) -> None:
    assert "is no folder of a run" in refused(call("work", tmp_path))
    assert "--redo is for one worker" in refused(call("run", recipe, "--on", "ray", "--redo"))
    assert "on is 'gpu'; it begins with ray or slurm" in refused(
        call("run", recipe, "--out", tmp_path / "out", "--on", "gpu")
    )


def test_show(first: Result, out: Path) -> None:
    shown = call("show", out)
    assert shown.exit_code == 0 and "fusion of all 2" in shown.stdout and "attention-a.png" in shown.stdout


def test_show_without_plots_writes_nothing(first: Result, out: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "copy", ignore=shutil.ignore_patterns("plots", "results.*")))
    before = sorted(copy.rglob("*"))
    shown = call("show", copy, "--no-plots")
    assert shown.exit_code == 0 and "fusion of all 2" in shown.stdout and sorted(copy.rglob("*")) == before


def test_show_as_json_is_json_and_nothing_else(first: Result, out: Path) -> None:
    shown = json.loads(call("show", out, "--json").stdout)
    assert shown == json.loads((out / "results.json").read_text())


def test_the_adapters_of_a_run_are_listed_with_their_tasks(first: Result, out: Path, tmp_path: Path) -> None:
    found = json.loads(call("list", out, "--index", tmp_path / "index.sqlite", "--json").stdout)
    kept = {(one["history"]["unit"], one["kind"], one["history"]["task"]): one for one in found}
    assert {*kept} == {("adapter/a/0", "adapter", "a"), ("adapter/b/0", "adapter", "b"), ("fusion/a/0", "fusion", "a")}
    scores = json.loads((out / "units" / "fusion" / "a" / "0" / "result.json").read_text())
    assert kept["fusion/a/0", "fusion", "a"]["history"]["score"] == scores["score"]
    assert "3 of 3 trainings done" in call("inspect", out).stdout


def test_a_dry_run_trains_nothing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def estimate(read: object, **options: object) -> str:
        asked.update(options)
        return "as long as it takes"

    monkeypatch.setattr("graftwork.experiments.estimate", estimate)
    told = call("run", recipe, "--out", tmp_path / "new", "--dry-run")
    assert told.exit_code == 0 and told.stdout == "as long as it takes\n" and not (tmp_path / "new").exists()
    assert isinstance(asked.pop("watcher"), Live) and asked == {"root": recipe.parent, "run": tmp_path / "new"}


def test_by_default_a_run_is_in_the_current_folder(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def stop(read: object, folder: Path, root: Path, watcher: object, redo: bool) -> None:
        seen.update(folder=folder, root=root)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graftwork.experiments.run", stop)
    stopped = call("run", recipe)
    assert seen == {"folder": Path("runs/recipe"), "root": recipe.parent}
    assert stopped.exit_code == 130
    assert stopped.stderr.strip() == "interrupted; the same command goes on where this one stopped"


def test_seeds_by_number_take_the_place_of_those_of_the_recipe(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stop(read: Any, *_: Any, **__: Any) -> None:
        seen.append(read)
        raise KeyboardInterrupt

    monkeypatch.setattr("graftwork.experiments.run", stop)
    call("run", recipe, "--seeds", 3)
    (read,) = seen
    assert read.seeds == (0, 1, 2) and read.targets == ("a",) and "seeds" in read.model_fields_set
    assert read.model_fields_set - {"seeds"} == Recipe.read(recipe).model_fields_set


def test_seeds_without_a_target_are_refused(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe.read_text().replace('targets = ["a"]', ""))
    assert "the recipe has none; give it targets" in refused(call("run", tmp_path / "recipe.toml", "--seeds", 2))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    said = refused(call("run", tmp_path / "none.toml"))
    assert said == f"the recipe {tmp_path / 'none.toml'} cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("batch_size", "batchsize"), "training.batchsize: this key is not known; did you mean 'batch_size'?"),
        (('targets = ["a"]', 'targets = ["[red]c"]'), "the target '[red]c' is no task; the tasks are a, b"),
    ],
)
def test_a_recipe_that_is_wrong(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(SHORT.replace(*change))
    said = refused(call("run", path, "--out", tmp_path / "out"))
    assert said.startswith(f"{path} has 1 mistake(s):") and message in said
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert (
        refused(call("run", recipe, "--out", tmp_path / "out"))
        == f"{tmp_path / 'out'} is no folder; give another --out"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_may_not_be_written(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def mkdir(self: Path, *args: Any, **options: Any) -> None:
        if self.name == "out":
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert "Permission denied" in refused(call("run", recipe, "--out", tmp_path / "out"))


def test_show_of_another_folder(tmp_path: Path) -> None:
    assert "is no folder of a run" in refused(call("show", tmp_path))


COMMANDS = [
    "init",
    "run",
    "work",
    "compare",
    "sweep",
    "show",
    "report",
    "evaluate",
    "predict",
    "serve",
    "export",
    "chat",
    "push",
    "sites",
    "methods",
]
COMMANDS += ["recommend", "convert", "inspect", "verify", "list", "find"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    assert f"graftwork {command}" in call(command, "--help").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_loses_what_is_in_brackets(command: str) -> None:
    """Everything that is written in a command's help is shown: nothing of it is markup."""
    found = next(
        one for one in app.registered_commands if one.callback and (one.name or one.callback.__name__) == command
    )
    hints = typing.get_type_hints(found.callback, include_extras=True)
    written = [found.callback.__doc__ or ""] if found.callback else []
    written += [one.help for hint in hints.values() for one in getattr(hint, "__metadata__", ()) if one.help]
    shown = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"}).invoke(app, [command, "--help"]).stdout
    plain = "".join(re.sub(r"[│\s]", "", shown))
    for text in written:
        for bracket in re.findall(r"\[[^\]\s]*\]", text):
            assert bracket in plain
        first = re.sub(r"\s", "", text.split("\n")[0])[:20]
        assert first in plain


def test_the_help_lists_the_commands_in_the_order_of_their_use() -> None:
    told = call("--help").stdout
    at = [told.index(f"│ {command} ") for command in COMMANDS]
    assert at == sorted(at) and len(app.registered_commands) == len(COMMANDS)


def test_python_m_graftwork_is_the_same() -> None:
    command = [sys.executable, "-m", "graftwork", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0 and "Usage: graftwork" in told.stdout


@pytest.fixture(scope="module")
def compared(recipe: Path) -> tuple[Result, Path]:
    out = recipe.parent / "compared"
    return call("compare", recipe, "--methods", "head", "--out", out, "--no-costs"), out


def test_compare_trains_what_is_named_and_shows_its_differences(compared: tuple[Result, Path]) -> None:
    told, out = compared
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    begun = lines.index("2 trainings, 0 of them done already")
    assert lines[0] == "Data" and lines[begun + 1] == "begun full/a/0 (1 of 2)"
    assert "a: what can be told apart" in lines and any("to full [95 %]" in line for line in lines)
    assert f"  {out}: results.md, results.txt" in lines and (out / "plots" / "comparison.png").is_file()
    assert lines[lines.index("Next:") + 1 :] == [f"  graftwork show {out}", f"  graftwork report {out}"]
    assert not (out / "costs.json").exists()


def test_a_folder_that_compared_is_shown_and_reported_so(compared: tuple[Result, Path]) -> None:
    _, out = compared
    assert "a: what can be told apart" in call("show", out, "--no-plots").stdout
    shown = json.loads(call("show", out, "--json").stdout)
    assert shown["comparison"] == json.loads((out / "comparison.json").read_text())
    assert call("report", out).exit_code == 0 and "trained weights a task" in (out / "report.html").read_text()


def test_compare_tells_of_a_name_that_is_not_known(recipe: Path, tmp_path: Path) -> None:
    said = refused(call("compare", recipe, "--methods", "head,houlsbi", "--out", tmp_path / "new"))
    assert said.startswith("'houlsbi' is not known to compare; did you mean 'houlsby'?")
    assert not (tmp_path / "new").exists()


def test_a_dry_comparison_is_of_its_own_plan(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def estimate(read: Any, **options: object) -> str:
        asked.update(options, methods=[*read.methods], controls=read.controls)
        return "as long as it takes"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("graftwork.experiments.estimate", estimate)
    told = call("compare", recipe, "--methods", "pfeiffer,head", "--dry-run")
    assert told.exit_code == 0 and told.stdout == "as long as it takes\n" and not [*tmp_path.iterdir()]
    assert asked["methods"] == ["pfeiffer"] and asked["controls"] == ("full", "head")
    assert asked["run"] == Path("runs/recipe-compare") and asked["root"] == recipe.parent
