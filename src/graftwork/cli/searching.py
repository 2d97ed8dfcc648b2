"""Commands that list the adapters in folders, and find some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, on_meta, one_line, quiet

if TYPE_CHECKING:
    from graftwork.shelf import FolderInfo

Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDER...", help="Folders, also of runs, searched with all below them.")
]
Index = Annotated[
    Path | None,
    typer.Option(help="The file that keeps what is known of folders; by default one in the user's folder for caches."),
]
Json = Annotated[bool, typer.Option("--json", help="Print a list of everything known as JSON.")]


@app.command("list", cls=Command)
def list_folders(folders: Folders, index: Index = None, json: Json = False) -> None:
    """List the adapters, fusions and compositions in folders.

    A folder is read once, and again only when its files change: the index
    keeps what is known. It can be deleted at any time. What is damaged is
    listed with the reason.

    For example:

        graftwork list saved runs
    """
    with one_line():
        from graftwork.shelf import Shelf

        _print(Shelf(*folders, index=index).folders(), json)


@app.command(cls=Command)
def find(
    folders: Folders,
    base: Annotated[
        str | None,
        typer.Option(
            help="The name, type or class of the base, such as 'bert'; or the folder of a model, which it has to fit."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The task, as a run says it; for an adapter outside of runs its name.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="The method or the block, such as 'lora' or 'fuse'.")] = None,
    index: Index = None,
    json: Json = False,
) -> None:
    """Find adapters by base, task and method among all in some folders.

    Names may have * and ?. What is damaged is left out. The exit status is 1
    where nothing is found.

    For example:

        graftwork find saved runs --base bert --task "sst*"
    """
    with one_line():
        from graftwork.attach import Handle
        from graftwork.attach.attaching import attach_to
        from graftwork.shelf import Shelf

        shelf = Shelf(*folders, index=index)
        wanted: str | Handle | None = base
        if base is not None and (Path(base) / "config.json").is_file():
            quiet()
            wanted = attach_to(on_meta(base, "AutoModel"), Handle, None, None)
        found = shelf.find(base=wanted, task=task, method=method)
        _print(found, json)
    if not found:
        raise typer.Exit(1)


def _print(found: Sequence[FolderInfo], json: bool) -> None:
    from graftwork.report import print_folders

    if json:
        import json as writer

        typer.echo(writer.dumps([one.model_dump(mode="json") for one in found], indent=1))
        return
    print_folders(found, Console())
