"""The command line, thin: every command calls one function of the library."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `graftwork run` wrote into.")]


@app.callback()
def _root() -> None:
    """Composable adapters for frozen transformers.

    A recipe (a TOML file) names a pretrained model and some tasks. `run`
    trains an adapter for each task, and for each target a fusion of all of
    them beside what it has to be compared with; `show` says what came out,
    and `recommend` which method suits a task, also before anything is trained.

        graftwork run recipe.toml --dry-run
        graftwork run recipe.toml
        graftwork show runs/recipe
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ± is no reason to fail


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """An error that a user can do something about is one red line and exit code 1; a bug keeps its traceback."""
    from graftwork.errors import GraftworkError

    try:
        yield
    except GraftworkError as error:
        _say(str(error), "red")
        raise typer.Exit(1) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}", "red")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _say("interrupted; the same command goes on where this one stopped", "yellow")
        raise typer.Exit(130) from error


def _say(text: str, style: str = "") -> None:
    Console(stderr=True).print(Text(text, style), soft_wrap=True)


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
) -> None:
    """Train everything that a recipe says, and show the results.

    Interrupted at any moment (Ctrl-C, a crash), the same command goes on
    where the last one stopped. What is done is not done again; targets, seeds
    and controls of the recipe may grow later.

    For example:

        graftwork run recipe.toml --out runs/first
    """
    with _one_line():
        from graftwork.training import Recipe

        read, root = Recipe.read(recipe), recipe.absolute().parent
        folder = Path("runs") / recipe.stem if out is None else out
        _quiet()
        if dry_run:
            from graftwork.training import estimate

            typer.echo(str(estimate(read, root=root, run=folder)))
            return
        from graftwork.report import Live, print_all
        from graftwork.training import run as train

        with Live(read, plain=plain) as live:
            train(read, folder, root=root, watcher=live)
        print_all(folder, Console())


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
    with _one_line():
        from graftwork.training import Recipe, comparison, estimate

        read, root = Recipe.read(recipe), recipe.absolute().parent
        names = None if methods is None else methods.split(",")
        folder = Path("runs") / f"{recipe.stem}-compare" if out is None else out
        asked = comparison(read, names)
        _quiet()
        if dry_run:
            typer.echo(str(estimate(asked, root=root, run=folder)))
            return
        from graftwork.report import Live, print_all
        from graftwork.training import compare as train

        with Live(asked, plain=plain) as live:
            train(read, names, run=folder, root=root, watcher=live, costs=costs)
        print_all(folder, Console())


@app.command()
def show(
    run: RunFolder,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    plots: Annotated[
        bool | None,
        typer.Option(help="Write tables and plots into the run's folder; by default plots only where matplotlib is."),
    ] = None,
) -> None:
    """Show the results of a run, also while it is trained.

    For example:

        graftwork show runs/recipe
    """
    with _one_line():
        from graftwork.report import gather, print_files, print_tables, write_report

        found, console = gather(run), Console()
        if json:
            import json as writer

            more = {} if found.comparison is None else {"comparison": found.comparison}
            typer.echo(writer.dumps({**found.results, **more}, indent=1))
            return
        print_tables(found, console)
        if plots is not False:
            print_files(write_report(run, plots=plots), console)


@app.command()
def report(
    run: RunFolder,
    to: Annotated[
        Path | None, typer.Option(help="The file; by default report.html in the run's folder.", show_default=False)
    ] = None,
) -> None:
    """Write a run as one page of HTML: tables that sort, heat maps, curves.

    The file needs nothing beside it and no network: it can be sent as it is.

    For example:

        graftwork report runs/recipe --to rte.html
    """
    with _one_line():
        from graftwork.report import write_page

        typer.echo(str(write_page(run, to)))


def _quiet() -> None:
    """Leave the terminal to the view: transformers would write its own warnings and bars between its lines."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@app.command()
def predict(
    run: RunFolder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="What the task reads: a text, a pair, a question and its context, ..."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task; may be left out where the run has one target.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Several tasks, with commas between them: each answers for the same text, in one pass."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file of rows instead of texts: .jsonl, .csv, .tsv, .parquet.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="fusion, adapter, head, ..., or a method of the recipe; by default the fusion, else the adapter."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training; by default the first.")] = None,
    language: Annotated[
        str | None,
        typer.Option(help="The language of the rows, where the task stands over a language; by default its own."),
    ] = None,
) -> None:
    """Predict with what a run has trained; one line of JSON for each row.

    For example:

        graftwork predict runs/recipe --task rte "A cat sleeps." "An animal rests."

        graftwork predict runs/recipe --task rte --file rows.jsonl

        graftwork predict runs/recipe --tasks sentiment,names "Ada was glad."
    """
    with _one_line():
        import json

        from graftwork.errors import RecipeError
        from graftwork.training import Predictor, Several, answers

        _quiet()
        asked: Predictor | Several
        if tasks is None:
            asked = Predictor(run, task, kind=kind, seed=seed, language=language)
        elif task is not None or kind is not None or language is not None:
            raise RecipeError(
                "--tasks answers by each task's fusion or adapter; leave --task, --kind and --language out"
            )
        else:
            asked = Several(run, [name.strip() for name in tasks.split(",")], seed=seed)
        for answer in answers(asked, texts or (), file):
            typer.echo(json.dumps(answer, ensure_ascii=False))


@app.command()
def sites(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder with a config.json, the name of a model on the Hub, or a model type such as 'bert' (its default size)."
        ),
    ],
    auto: Annotated[
        str, typer.Option(help="The AutoModel class that is built, such as AutoModelForSequenceClassification.")
    ] = "AutoModel",
    json: Annotated[
        bool, typer.Option("--json", help="Print the map as JSON, to give to attach(model, sites=...).")
    ] = False,
) -> None:
    """Print where adapters can stand in a model.

    Nothing is downloaded but the configuration, and no weight is allocated:
    the model is built on the meta device and its sites are found by tracing
    one forward pass.

    For example:

        graftwork sites bert
    """
    with _one_line():
        from graftwork.sites import discover

        found = discover(_on_meta(model, auto))
        typer.echo(found.to_json() if json else str(found))


def _on_meta(name: str, auto: str):  # type: ignore[no-untyped-def]  # torch is imported by the commands that need it
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from graftwork.errors import ConfigError

    make = getattr(transformers, auto, None)
    if make is None or not hasattr(make, "from_config"):
        raise ConfigError(f"--auto is {auto!r}; it must be one of transformers' AutoModel classes")
    if name in CONFIG_MAPPING and not Path(name).exists():
        config = CONFIG_MAPPING[name]()
    else:
        try:
            config = transformers.AutoConfig.from_pretrained(name)
        except ValueError as error:  # a config.json of a type that transformers does not know
            raise ConfigError(f"{name}: {error}") from error
    with torch.device("meta"):
        return make.from_config(config)


@app.command()
def methods(
    model: Annotated[
        str, typer.Option(help="A model, as `graftwork sites` takes it, that weights are counted for.")
    ] = "bert",
    auto: Annotated[str, typer.Option(help="The AutoModel class that is built.")] = "AutoModel",
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the adapter methods and the blocks, with their default options on a model.

    What each is, its paper, where it stands there, what it reads and writes,
    how many weights it has, and how it composes. No weight is allocated.

    For example:

        graftwork methods --model roberta
    """
    with _one_line():
        from graftwork import attach
        from graftwork.report import all_blocks, all_facts, methods_as_json, print_methods

        _quiet()
        built = _on_meta(model, auto)
        grafts = attach(built)
        found, blocks = all_facts(grafts), all_blocks(grafts)
        if json:
            typer.echo(methods_as_json(found, blocks))
        else:
            print_methods(found, f"{model} ({type(built).__name__})", Console(), blocks)


@app.command()
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
        bool, typer.Option("--keep-old", help="What was learnt must stay what it is when a task is added.")
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="At most so many weights a task (1M, 800k), or the bytes of its file in float32 (4MB)."),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="At most so many times the bare model's time of inference, such as 1.1.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The folder of a run: its figures take the place of the literature's.")
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
    with _one_line():
        from graftwork.report.recommending import Asked, advice_as_dict, advise, print_advice

        _quiet()
        asked = Asked(
            recipe=recipe,
            run=run,
            base=base,
            target=target,
            rows=rows or (),
            sources=source or (),
            weights=weights,
            latency=latency,
            changing=changing,
            keep_base=keep_base,
            keep_old=keep_old,
        )
        found = advise(asked, _on_meta)
        if json:
            import json as writer

            typer.echo(writer.dumps([advice_as_dict(advice) for advice in found], indent=1, ensure_ascii=False))
            return
        for advice in found:
            print_advice(advice, Console())


if __name__ == "__main__":
    app()
