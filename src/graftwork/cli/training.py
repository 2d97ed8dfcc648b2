"""Commands that train: a recipe, or a comparison of its methods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from graftwork.cli.shared import Command, Device, Root, RunFolder, app, one_line, put, quiet, use_device

if TYPE_CHECKING:
    from graftwork.experiments import Recipe
    from graftwork.report import Live

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Train nothing: print what would be trained, and how long it takes.")
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines of text instead of the live view.")]
Redo = Annotated[
    bool,
    typer.Option(
        "--redo", help="Train again what no longer fits its data or base, or is damaged, and what depends on it."
    ),
]


@app.command(cls=Command)
def run(
    recipe: RecipeFile,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder for everything that is written; by default runs/ and the recipe's name."),
    ] = None,
    dry_run: DryRun = False,
    plain: Plain = False,
    redo: Redo = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Repeat every training for a target with this many seeds, 0, 1, 2, ..., in place of the recipe's.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE",
            help="Start workers elsewhere: ray (on this machine), ray:ADDRESS, slurm, slurm:PARTITION. They share the folder.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="With --on: how many workers; each trains one unit at a time.")
    ] = 1,
    gpus_per_unit: Annotated[
        float, typer.Option(min=0, help="With --on: the GPUs of a worker; with Ray also a part of one, such as 0.25.")
    ] = 0.0,
    hours: Annotated[float, typer.Option(help="With --on slurm: the most hours of a job.")] = 24.0,
) -> None:
    """Train everything in a recipe, and show the results.

    After an interruption (Ctrl-C, a crash), the same command continues where
    the last one stopped. What is done is not trained again; targets, seeds
    and controls can be added to the recipe later.

    For example:

        graftwork run recipe.toml --out runs/first

        graftwork run recipe.toml --seeds 5

        graftwork run recipe.toml --on ray --workers 8 --gpus-per-unit 0.25
    """
    with one_line():
        use_device(device)
        from graftwork.errors import ConfigError
        from graftwork.experiments import Recipe, launch, run

        read, root = Recipe.read(recipe), recipe.absolute().parent
        folder = Path("runs") / recipe.stem if out is None else out
        if seeds is not None:
            read = with_seeds(read, range(seeds))
        if on is not None and redo:
            raise ConfigError("--redo is for one worker; start it without --on first, and end it when it trains")

        def train(live: Live) -> None:
            if on is None:
                run(read, folder, root=root, watcher=live, redo=redo)
            else:
                resources: dict[str, Any] = {"workers": workers, "gpus_per_unit": gpus_per_unit, "hours": hours}
                launch(read, folder, on, root=root, watcher=live, **resources)

        _train(read, folder, root, plain, dry_run, train)


@app.command(cls=Command)
def work(run: RunFolder, root: Root = None, plain: Plain = False) -> None:
    """Train what is left of a run, beside any number of other workers.

    Start it as often as there are GPUs, on all machines that share the run's
    folder; `graftwork run` is one worker too, and begins the folder. Each
    training is one worker's. If a worker is killed, or its machine is gone,
    another takes over what it trained, from the last checkpoint. The command
    ends when all trainings are done, whoever did them, and its exit code is 0
    if all succeeded.

    For example, on a machine with two GPUs:

        graftwork run recipe.toml --out runs/first &
        CUDA_VISIBLE_DEVICES=1 graftwork work runs/first
    """
    with one_line():
        from graftwork.experiments import work
        from graftwork.experiments.running.folder import recipe_of

        _train(recipe_of(run), run, root, plain, False, lambda live: work(run, root=root, watcher=live))


@app.command(cls=Command)
def compare(
    recipe: RecipeFile,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What is compared, separated by commas: a [methods.NAME] of the recipe, a method (houlsby), one of peft "
            "(peft:oft), or a kind of training (head, fusion, multitask, ...).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for everything that is written; by default runs/ and the recipe's name with -compare."
        ),
    ] = None,
    dry_run: DryRun = False,
    plain: Plain = False,
    redo: Redo = False,
    costs: Annotated[
        bool,
        typer.Option("--costs/--no-costs", help="Measure time and memory of a batch, each unit in its own process."),
    ] = True,
) -> None:
    """Compare methods on the same tasks, seeds and budget.

    Each is trained for every target of the recipe (every task, where it names
    none), and so is the whole model: weights, file, time and memory are
    ratios to that, and scores are differences from it, with an interval of
    95 % from a paired bootstrap over the scored rows.

    Without --methods, the head alone and the [methods.NAME] of the recipe;
    where it has none, pfeiffer, houlsby, compacter and lora. After an
    interruption the same command continues; with other --methods it adds
    them to the folder.

    For example:

        graftwork compare recipe.toml --methods head,pfeiffer,houlsby --dry-run

        graftwork compare recipe.toml --methods head,pfeiffer,houlsby
    """
    with one_line():
        from graftwork.experiments import Recipe, compare, comparison

        read, root = Recipe.read(recipe), recipe.absolute().parent
        names = None if methods is None else methods.split(",")
        folder = Path("runs") / f"{recipe.stem}-compare" if out is None else out

        def train(live: Live) -> None:
            compare(read, names, run=folder, root=root, watcher=live, costs=costs, redo=redo)

        _train(comparison(read, names), folder, root, plain, dry_run, train)


def with_seeds(recipe: Recipe, seeds: Iterable[int]) -> Recipe:
    """The recipe with other seeds; refuse one without targets, where seeds change nothing."""
    from graftwork.errors import ConfigError
    from graftwork.experiments import Recipe

    if not recipe.targets:
        raise ConfigError(
            '--seeds repeats what is trained for a target, and the recipe has none; give it targets = ["TASK"]'
        )
    return Recipe.make({**recipe.model_dump(mode="json", exclude_unset=True), "seeds": [*seeds]})


def _train(
    recipe: Recipe, run: Path, root: Path | None, plain: bool, dry_run: bool, train: Callable[[Live], object]
) -> None:
    """Train with a live view and show the results; in a dry run print only what would be trained."""
    from graftwork.errors import GraftworkError, TrainingError
    from graftwork.experiments import estimate
    from graftwork.report import Live, gather, print_all, print_tables

    quiet()
    if dry_run:
        put(str(estimate(recipe, root=root or Path(), run=run, watcher=Live(recipe, plain=plain))))
        return
    try:
        with Live(recipe, plain=plain) as live:
            train(live)
    except TrainingError:  # the results of the other trainings
        with contextlib.suppress(GraftworkError):  # it may have failed before there was anything to show
            print_tables(gather(run), Console())
        raise
    print_all(run, Console())
