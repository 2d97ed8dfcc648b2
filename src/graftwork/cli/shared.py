"""What the commands share: the application, errors as one line, output, a model without memory for its weights."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Command(TyperCommand):
    """A command whose help is plain text: what is in brackets, ``[methods.NAME]``, is not markup of rich."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        documented: list[Any] = [self, *self.params]
        for one in documented:
            one.help = escape(one.help) if one.help else one.help


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `graftwork run` wrote into.")]

# what of a run answers
UnitKindName = Annotated[
    str | None,
    typer.Option(
        help="fusion, adapter, head, ..., or a method of the recipe; by default the fusion, else the adapter."
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="The language of the rows, where the task is stacked on a language's adapter; by default its own."
    ),
]
UnitSeed = Annotated[int | None, typer.Option(help="Of the training; by default the first.")]
Root = Annotated[
    Path | None,
    typer.Option(
        help="The folder that the recipe's paths are relative to, where the run or its base was moved.",
        show_default=False,
    ),
]

BatchSize = Annotated[int, typer.Option(min=1, help="How many rows are computed at once.")]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where it is computed: cpu, cuda or cuda:NUMBER; by default the first GPU where there is one.",
        show_default=False,
    ),
]

# how answers are generated; by default as the task says
Temperature = Annotated[
    float | None, typer.Option(help="Draw tokens with this temperature; by default the likeliest is taken.")
]
TopP = Annotated[float | None, typer.Option(help="Draw among the likeliest tokens whose probabilities sum to this.")]
TopK = Annotated[int | None, typer.Option(help="Draw among this many tokens.")]
MaxNewTokens = Annotated[int | None, typer.Option(help="The most tokens that are generated.")]
NumBeams = Annotated[int | None, typer.Option(help="The beams of the generation.")]
SamplingSeed = Annotated[int | None, typer.Option(help="The seed of what is drawn.")]


@app.callback()
def _root() -> None:
    """Composable adapters for frozen transformers.

    A recipe (a TOML file) names a pretrained model and some tasks. `run`
    trains an adapter for each task, and for each target task a fusion of all
    of them and the baselines; `show` prints the results, and `recommend` says
    which method suits a task, also before anything is trained.

        graftwork run recipe.toml --dry-run
        graftwork run recipe.toml
        graftwork show runs/recipe
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a character such as ±


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Print an error of the user's as one red line and exit with code 1; any other error keeps its traceback."""
    from graftwork.errors import GraftworkError

    try:
        yield
    except GraftworkError as error:
        say(str(error), "red")
        raise typer.Exit(1) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}", "red")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        say("interrupted; the same command goes on where this one stopped", "yellow")
        raise typer.Exit(130) from error


def say(text: str, style: str = "") -> None:
    """Print a line to stderr, without breaking it."""
    from graftwork.report import print_text

    print_text(text, Console(stderr=True), style)


def put(text: str) -> None:
    """Print lines to stdout, without control characters."""
    from graftwork.report import printable

    typer.echo(printable(text, keep="\n"))


def quiet() -> None:
    """Turn off the warnings and bars of transformers, and print Python's warnings without the line of code."""
    from transformers.utils import logging

    from graftwork.report import printable

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.formatwarning = lambda message, *_: f"warning: {printable(str(message))}\n"


def use_device(device: str | None) -> None:
    """Let this process, and those that it starts, see one device alone; called before anything is computed."""
    from graftwork.errors import ConfigError

    if device is None:
        return
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or (number and (name == "cpu" or not number.isdecimal())):
        raise ConfigError(f"--device {device!r} is not known; give cpu, cuda or cuda:NUMBER")
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    count = torch.cuda.device_count()  # which does not begin to use a GPU: the variable is still read then
    if int(number or 0) >= count:
        raise ConfigError(f"--device {device}: torch sees {count} GPUs here, numbered from 0; give another, or cpu")
    given = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    os.environ["CUDA_VISIBLE_DEVICES"] = given[int(number or 0)] if given else number or "0"


def refuse_folder(path: Path | None, option: str) -> None:
    """Refuse a folder where a file is to be written, before anything is computed."""
    from graftwork.errors import ConfigError

    if path is not None and path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give the name of a file")


def on_meta(name: str, auto: str) -> PreTrainedModel:
    """Return a model of a folder, of the Hub or of a type, without memory for its weights."""
    import torch  # only by the commands that need it
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
