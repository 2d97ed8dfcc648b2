"""The command that says which method suits a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, on_meta, one_line, quiet
from graftwork.errors import ConfigError

if TYPE_CHECKING:
    from graftwork.experiments.planning.recipe import Recipe

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_BYTES_A_WEIGHT = 4  # weights in files are float32


@app.command(cls=Command)
def recommend(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE]", help="A TOML file: its base, and its tasks with their rows.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The task to be served best; by default the recipe's targets, or the only task.")
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option(metavar="NAME=ROWS", help="A task and its training rows; may be repeated.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=ROWS]", help="A related task at hand; may be repeated. By default the recipe's other tasks."
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="A model, as `graftwork sites` takes it; by default the recipe's.")
    ] = None,
    changing: Annotated[bool, typer.Option("--changing", help="Tasks come and go at run time.")] = False,
    keep_base: Annotated[bool, typer.Option("--keep-base", help="The base's own weights may not be changed.")] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Trained tasks must stay as they are when a task is added.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="At most that many weights for a task (1M, 800k), or bytes of its file in float32 (4MB)."),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="At most that many times the bare model's inference time, such as 1.1.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder of a run: its results replace those of the literature.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON.")] = False,
) -> None:
    """Say which method suits a task, and why.

    Every reason is tied to a figure of your own run, to a count on your base,
    or to a published figure, and marked which; where these do not separate
    two methods it says so. Nothing is trained, and no weight is allocated.

    For example:

        graftwork recommend --base bert --rows rte=2490 --source mnli=392702

        graftwork recommend recipe.toml --weights 1M --latency 1.1

        graftwork recommend recipe.toml --run runs/recipe
    """
    with one_line():
        from graftwork.api import attach
        from graftwork.report import recommending

        quiet()
        limit = None if weights is None else weights_of(weights)
        figures = () if run is None else recommending.read_figures(run)
        found = _recipe(recipe, run)
        described = _tasks(found) if found is not None and (recipe is not None or not rows) else {}
        tasks = {**{name: size for name, (size, _) in described.items()}, **rows_of(rows or (), "--rows")}
        sources = rows_of(source or (), "--source", tasks)
        targets = [target] if target is not None else [*found[0].targets] if found is not None and described else []
        needs = [
            recommending.Needs(
                target=one,
                tasks=tasks,
                # in a recipe with targets every other task is a source of a target's fusion
                sources=sources
                or {name: tasks[name] for name in described if found and one in found[0].targets and name != one},
                changing=changing,
                keep_base=keep_base,
                keep_old=keep_old,
                weights_a_task=limit,
                latency=latency,
                kind=described[one][1] if one in described else None,
            )
            for one in targets or [_only(tasks)]
        ]
        name, model, auto = _base(base, found)
        adapters = attach(on_meta(model, auto))
        advices = [
            recommending.recommend(one, recommending.Base.of(adapters, name, one.pool), figures) for one in needs
        ]
        if json:
            import json as writer

            plain = [recommending.advice_as_dict(advice) for advice in advices]
            typer.echo(writer.dumps(plain, indent=1, ensure_ascii=False))
            return
        for advice in advices:
            recommending.print_advice(advice, Console())


def rows_of(given: Iterable[str], option: str, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Read the training rows of tasks from ``name=number``, or from a name alone whose rows are known."""
    found: dict[str, int] = {}
    for one in given:
        before, equals, after = one.rpartition("=")
        name, number = (before.strip(), after.strip()) if equals else (after.strip(), "")
        if name in found:
            raise ConfigError(f"{option} {one}: {name!r} is given twice; give it once")
        if not equals and known is not None and name in known:
            found[name] = known[name]
            continue
        rows = number.replace("_", "").replace(",", "")
        if not name or not rows.isascii() or not rows.isdigit():
            raise ConfigError(f"{option} {one!r} cannot be read; give a name and its training rows, such as rte=2490")
        found[name] = int(rows)
    return found


def weights_of(given: str) -> int:
    """Read a limit of weights from a number (``1M``, ``800k``), or the bytes of a file of float32 weights (``4MB``)."""
    read = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(b?)", given.strip().replace("_", "").replace(",", ""), re.I)
    count = 0.0 if read is None else float(read[1]) * _UNITS[read[2].lower()]
    if read is not None and read[3]:
        count /= _BYTES_A_WEIGHT
    if count < 1:
        raise ConfigError(f"--weights {given!r} cannot be read; give a number such as 1M or 800k, or bytes such as 4MB")
    return int(count)


def _recipe(recipe: Path | None, run: Path | None) -> tuple[Recipe, Path] | None:
    """Return the recipe, else that of the run, and the folder that its paths are relative to."""
    from graftwork.experiments.planning.recipe import Recipe
    from graftwork.experiments.running.folder import recipe_of, root_of

    if recipe is not None:
        return Recipe.read(recipe), recipe.absolute().parent
    return None if run is None else (recipe_of(run), root_of(run))


def _tasks(found: tuple[Recipe, Path]) -> dict[str, tuple[int, str]]:
    """Return the number of training rows and the kind of each task of a recipe."""
    from graftwork.tasks import Task

    recipe, root = found
    return {name: (len(Task.read(name, spec, root).train), spec.kind) for name, spec in recipe.tasks.items()}


def _only(tasks: Mapping[str, int]) -> str:
    """Return the only task; refuse none or several."""
    if not tasks:
        raise ConfigError("there is no task; give a recipe, or the training rows of a task, such as --rows rte=2490")
    first, *more = tasks
    if more:
        raise ConfigError(f"there are {len(tasks)} tasks; say which one is to be served best, as --target {first}")
    return first


def _base(base: str | None, found: tuple[Recipe, Path] | None) -> tuple[str, str, str]:
    """Return the name of the base, the folder or name to load it from, and the AutoModel class."""
    from graftwork.experiments.running.base import auto_class, find_model

    if base is not None:
        return base, base, "AutoModel"
    if found is None:
        raise ConfigError("there is no base to count weights on; give --base, such as --base bert, or a recipe")
    recipe, root = found
    return recipe.base.model, find_model(recipe.base.model, root), auto_class(recipe.kinds)
