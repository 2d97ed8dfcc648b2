"""The recipe and the commands of the page on generation are such."""

import re
import shlex
from pathlib import Path

import tomllib
import typer

from graftwork.cli import app
from graftwork.experiments import Recipe
from graftwork.tasks.kind import find_kind

PAGE = (Path(__file__).parents[2] / "docs" / "generation.md").read_text(encoding="utf-8")


def test_its_recipe() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    recipe = Recipe.make(tomllib.loads(text))
    for name, spec in recipe.tasks.items():
        find_kind(spec, name).check_spec(name, spec)
    assert [find_kind(spec, "").name for spec in recipe.tasks.values()] == [
        "generation",
        "generation with messages",
        "generation with choices",
    ]


def test_its_commands() -> None:
    (text,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    group = typer.main.get_command(app)
    for line in text.splitlines():
        _, name, *words = shlex.split(line)
        group.commands[name].make_context(name, words)  # type: ignore[attr-defined]  # a group has commands
