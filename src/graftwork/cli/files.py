"""Commands about one folder with an adapter: what it holds, whether it is whole, and the same in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, on_meta, one_line, put, quiet

Folder = Annotated[Path, typer.Argument(metavar="PATH", help="The folder of an adapter, a fusion, a composition, ...")]
Pool = Annotated[
    list[Path] | None,
    typer.Option("--with", help="The folder of an adapter that a fusion needs and its folder lacks; may be repeated."),
]
Auto = Annotated[
    str | None,
    typer.Option(help="The AutoModel class that is built; by default the one that the head in PATH belongs to."),
]


@app.command(cls=Command)
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="The folder of an adapter, a fusion or a composition, in any format.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder; nothing is written over another.")],
    to: Annotated[str, typer.Option(help="graftwork, adapterhub or peft.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The base that it was trained on: a folder, or a name on the Hub. By default the base that IN names, where "
            "that is a folder or in the cache."
        ),
    ] = None,
    auto: Auto = None,
    pool: Pool = None,
    heads: Annotated[bool, typer.Option("--heads/--no-heads", help="Convert heads too.")] = True,
) -> None:
    """Write an adapter in another format: ours, AdapterHub's or peft's.

    It is loaded on its base, written, read back, and run on a small fixed
    input before and after. The new folder is there only if the outputs are
    the same; what a format cannot express is refused, and named.

    For example:

        graftwork convert saved/mrpc mrpc-peft --to peft --model bert-base-uncased
    """
    with one_line():
        from graftwork.shelf import convert as write
        from graftwork.shelf import inspect, load_model, require_convertible

        quiet()
        found = inspect(source)
        require_convertible(found, target, to)
        loaded = load_model(found, model, auto=auto, heads=heads)
        done = write(found, target, to, loaded, pool=pool or (), heads=heads)
        put(f"{done.folder}: {found.kind} {found.name!r} in the format {to}")
        put(f"read back: the outputs on a small input are the same (largest difference {done.difference:.1e})")


@app.command(cls=Command)
def inspect(
    folder: Annotated[
        Path, typer.Argument(metavar="PATH", help="The folder of an adapter, a fusion, a composition, a run, ...")
    ],
    model: Annotated[
        str | None, typer.Option(help="A model, as `graftwork sites` takes it: say whether the folder fits it.")
    ] = None,
    auto: Auto = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, with all options.")] = False,
) -> None:
    """Say what a folder holds, for which base, and where it comes from.

    Nothing is loaded: of the tensors only names and sizes are read. With
    --model, its type, sizes and layers are compared too, without its weights;
    `graftwork verify` compares those.

    For example:

        graftwork inspect saved/mrpc --model bert-base-uncased
    """
    with one_line():
        from graftwork.attach import Handle
        from graftwork.attach.attaching import attach_to
        from graftwork.report import print_folder, printable
        from graftwork.shelf import auto_class, misfit
        from graftwork.shelf import inspect as look

        found = look(folder)
        why = None
        if model is not None:
            quiet()
            handle = attach_to(on_meta(model, auto or auto_class(found)), Handle, None, None)
            why = misfit(found, handle)
        if json:
            import json as writer

            fits = {} if model is None else {"fits": why is None, "why_not": why}
            typer.echo(writer.dumps({**found.model_dump(mode="json"), **fits}, indent=1))
            return
        print_folder(found, Console())
        if model is not None:
            put(f"fits {model}: " + ("yes, by type and size" if why is None else printable(f"no, {why}")))


@app.command(cls=Command)
def verify(
    folder: Folder,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The base that it was trained on: a folder, or a name on the Hub.")
    ],
    auto: Auto = None,
    pool: Pool = None,
) -> None:
    """Load a folder on its base and run it: say OK, or what is wrong.

    Hashes, the base's type, size and weights, the shape and the value of every
    tensor are checked, then a forward pass on a small input. The exit status
    is 0 where all is right, else 1.

    For example:

        graftwork verify saved/mrpc bert-base-uncased
    """
    with one_line():
        from graftwork.shelf import inspect, load_model
        from graftwork.shelf import verify as check

        quiet()
        found = inspect(folder)
        put(str(check(found, load_model(found, model, auto=auto), pool=pool or ())))
