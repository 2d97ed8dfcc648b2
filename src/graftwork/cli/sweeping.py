"""The command that looks for the best values of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, one_line, quiet


@app.command(cls=Command)
def sweep(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file.")],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="KEY=VALUES",
            help="A key of the recipe and its values, 4,16,64, or a range, 1e-4..1e-2, with :log on a logarithmic scale. May be "
            "repeated.",
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="The most trials; by default every combination where no key has a range, else 20."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What is optimised: fusion, adapter, head, ..., or a [methods.NAME] of the recipe; by default the method that a "
            "key is of, else the fusions, else the adapters."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for everything that is written; by default runs/ and the recipe's name with -sweep."
        ),
    ] = None,
) -> None:
    """Find the values of some keys of a recipe with the best score.

    Each trial trains only what is optimised, and is a run in trials/ of the
    sweep's folder. Its score is the mean over the targets (all tasks, where
    the recipe names none) of each task's main metric on the dev rows; test
    rows decide nothing. Optuna proposes the values; a trial whose scores are
    below the median of the others at the same epoch is stopped. The whole
    recipe with the best values is best.toml.

    After an interruption the same command goes on. Several processes, also
    on other machines that share the folder, may run it at the same time:
    each takes trials of its own.

    For example:

        graftwork sweep recipe.toml --over adapter.reduction_factor=4,16,64

        graftwork sweep recipe.toml --over training.learning_rate=1e-4..1e-2:log --trials 20
    """
    with one_line():
        from graftwork.errors import ConfigError
        from graftwork.experiments import Recipe, sweep
        from graftwork.report import Live, print_sweep

        quiet()
        read, root = Recipe.read(recipe), recipe.absolute().parent
        folder = Path("runs") / f"{recipe.stem}-sweep" if out is None else out
        given = [one.partition("=") for one in over]
        for key, equals, values in given:
            if not equals or [one[0] for one in given].count(key) > 1:
                raise ConfigError(f"--over {key}{equals}{values}: give each key once, as KEY=VALUES")
        ranges = {key.strip(): values for key, _, values in given}
        sweep(read, ranges, folder, trials=trials, kind=kind, root=root, watch=lambda one: Live(one, plain=True))
        print_sweep(folder, Console())
