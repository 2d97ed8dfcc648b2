"""The command that says which method suits a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import app, on_meta, one_line, quiet


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
    with one_line():
        from graftwork.report.recommending import Asked, advice_as_dict, advise, print_advice

        quiet()
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
        found = advise(asked, on_meta)
        if json:
            import json as writer

            typer.echo(writer.dumps([advice_as_dict(advice) for advice in found], indent=1, ensure_ascii=False))
            return
        for advice in found:
            print_advice(advice, Console())
