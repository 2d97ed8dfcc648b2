"""Commands that train: a recipe, and methods of it held against each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import app, one_line, put, quiet

if TYPE_CHECKING:
    from graftwork.experiments import Recipe
    from graftwork.report import Live

Redo = Annotated[
    bool,
    typer.Option(
        "--redo", help="Train anew what no longer fits its data or base, or is damaged, and what depends on it."
    ),
]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for everything that is written; by default runs/ and the recipe's name."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: say what would be trained, and how long it takes.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text in place of the live view.")] = False,
    redo: Redo = False,
) -> None:
    """Train everything that a recipe says, and show the results.

    Interrupted at any moment (Ctrl-C, a crash), the same command goes on
    where the last one stopped. What is done is not done again; targets, seeds
    and controls of the recipe may grow later.

    For example:

        graftwork run recipe.toml --out runs/first
    """
    with one_line():
        from graftwork.experiments import Recipe

        read, root = Recipe.read(recipe), recipe.absolute().parent
        folder = Path("runs") / recipe.stem if out is None else out
        quiet()
        from graftwork.report import Live

        if dry_run:
            from graftwork.experiments import estimate

            put(str(estimate(read, root=root, run=folder, watcher=Live(read, plain=plain))))
            return
        from graftwork.experiments import run as train

        with _shown(read, folder, plain) as live:
            train(read, folder, root=root, watcher=live, redo=redo)


@app.command()
def compare(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file.")],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What is compared, with commas between: a [methods.NAME] of the recipe, a method (houlsby), one of peft "
            "(peft:lora), or a kind of training (head, fusion, multitask, ...).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for everything that is written; by default runs/ and the recipe's name with -compare."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: say what would be trained, and how long it takes.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text in place of the live view.")] = False,
    redo: Redo = False,
    costs: Annotated[
        bool, typer.Option("--costs/--no-costs", help="Measure time and memory of a batch, each in its own process.")
    ] = True,
) -> None:
    """Compare methods on the same tasks, seeds and budget.

    Each is trained for every target of the recipe (every task, where it names
    none), and so is the whole model: weights, file, time and memory are
    ratios to that, and scores differ from it by so much, with an interval of
    95 % from a paired bootstrap over the scored rows.

    Without --methods, the head alone and the [methods.NAME] of the recipe;
    where it has none, pfeiffer, houlsby, compacter, and peft:lora where peft
    is installed. Interrupted, the same command goes on; with other --methods
    it adds them to what the folder has.

    For example:

        graftwork compare recipe.toml --methods head,pfeiffer,houlsby --dry-run

        graftwork compare recipe.toml --methods head,pfeiffer,houlsby
    """
    with one_line():
        from graftwork.experiments import Recipe, comparison, estimate

        read, root = Recipe.read(recipe), recipe.absolute().parent
        names = None if methods is None else methods.split(",")
        folder = Path("runs") / f"{recipe.stem}-compare" if out is None else out
        asked = comparison(read, names)
        quiet()
        from graftwork.report import Live

        if dry_run:
            put(str(estimate(asked, root=root, run=folder, watcher=Live(asked, plain=plain))))
            return
        from graftwork.experiments import compare as train

        with _shown(asked, folder, plain) as live:
            train(read, names, run=folder, root=root, watcher=live, costs=costs, redo=redo)


@contextlib.contextmanager
def _shown(recipe: Recipe, run: Path, plain: bool) -> Iterator[Live]:
    """Show a run while it is trained, and what came out; where trainings failed, of the others."""
    from graftwork.errors import GraftworkError, TrainingError
    from graftwork.report import Live, gather, print_all, print_tables

    try:
        with Live(recipe, plain=plain) as live:
            yield live
    except TrainingError:
        with contextlib.suppress(GraftworkError):  # it may have failed before there was anything to show
            print_tables(gather(run), Console())
        raise
    print_all(run, Console())
