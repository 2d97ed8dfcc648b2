"""The command line, thin: every command calls one function of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Composable adapters for frozen transformers: look at where they can stand, and which there are.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Composable adapters for frozen transformers."""


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

    Nothing is downloaded but the configuration, and no weight is allocated: the model is built on the meta device and
    its sites are found by tracing one forward pass.

    Example: graftwork sites bert
    """
    from graftwork.errors import GraftworkError

    console = Console(stderr=True)
    try:
        found = _discover(model, auto)
    except (GraftworkError, OSError, ValueError) as error:
        console.print(f"[red]{type(error).__name__}[/red]: {error}", highlight=False)
        raise typer.Exit(1) from error
    typer.echo(found.to_json() if json else str(found))


def _discover(name: str, auto: str):  # type: ignore[no-untyped-def]
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from graftwork.errors import ConfigError
    from graftwork.sites import discover

    make = getattr(transformers, auto, None)
    if make is None or not hasattr(make, "from_config"):
        raise ConfigError(f"--auto is {auto!r}; it must be one of transformers' AutoModel classes")
    if name in CONFIG_MAPPING and not Path(name).exists():
        config = CONFIG_MAPPING[name]()
    else:
        config = transformers.AutoConfig.from_pretrained(name)
    with torch.device("meta"):
        model = make.from_config(config)
    return discover(model)


@app.command()
def methods() -> None:
    """List the adapter methods: what each is, where it stands, what it reads and where it writes."""
    import inspect

    from graftwork.methods import methods as registered

    console = Console()
    for name, config in registered().items():
        plain = config().to_dict()
        first = (inspect.getdoc(config) or "").partition("\n")[0]
        where = ", ".join(plain.get("sites", []))
        console.print(f"[bold]{name}[/bold] (graftwork.{config.__name__}): {first}", highlight=False)
        console.print(f"    at {where}; reads {plain.get('reads')}, writes {plain.get('writes')}", highlight=False)


if __name__ == "__main__":
    app()
