"""Commands about a model: its sites, and the methods that can be added to it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, on_meta, one_line, put, quiet


@app.command(cls=Command)
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
    """Print the sites of a model, where adapters can be added.

    Only the configuration is downloaded, and no weight is allocated: the
    model is built on the meta device, and its sites are found by tracing one
    forward pass.

    For example:

        graftwork sites bert
    """
    with one_line():
        from graftwork.sites import discover

        found = discover(on_meta(model, auto))
        put(found.to_json() if json else str(found))


@app.command(cls=Command)
def methods(
    model: Annotated[
        str, typer.Option(help="A model, as `graftwork sites` takes it, that weights are counted for.")
    ] = "bert",
    auto: Annotated[str, typer.Option(help="The AutoModel class that is built.")] = "AutoModel",
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the adapter methods and the blocks, with their default options on a model.

    For each its paper, its sites in the model, what it reads and writes, how
    many weights it has, and how it composes. No weight is allocated.

    For example:

        graftwork methods --model roberta
    """
    with one_line():
        from graftwork import attach
        from graftwork.report import all_blocks, all_facts, methods_as_json, print_methods

        quiet()
        built = on_meta(model, auto)
        adapters = attach(built)
        found, blocks = all_facts(adapters), all_blocks(adapters)
        if json:
            typer.echo(methods_as_json(found, blocks))
        else:
            print_methods(found, f"{model} ({type(built).__name__})", Console(), blocks)
