"""The command that sends what a run has trained to the Hub."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from graftwork.cli.shared import Command, Root, RunFolder, UnitKindName, UnitSeed, app, one_line, put, quiet


@app.command(cls=Command)
def push(
    run: RunFolder,
    to: Annotated[str, typer.Option(metavar="ORG/NAME", help="The repository; it is made where it is not there.")],
    task: Annotated[str | None, typer.Option(help="The task; by default the run's one target or task.")] = None,
    kind: UnitKindName = None,
    seed: UnitSeed = None,
    private: Annotated[
        bool | None,
        typer.Option(help="Whether a new repository is private; by default as the account has it.", show_default=False),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="A branch; it is made where it is not there.")] = None,
    message: Annotated[str | None, typer.Option(help="The message of the commit.")] = None,
    license: Annotated[str | None, typer.Option(help="For the card: apache-2.0, mit, cc-by-4.0, other, ...")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for the card; may be given several times.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="The base's name on the Hub, where the run has it in a folder.")
    ] = None,
    format: Annotated[
        Literal["graftwork", "adapterhub", "peft"], typer.Option(help="The format of the files.")
    ] = "graftwork",
    replace_card: Annotated[
        bool, typer.Option("--replace-card", help="Replace README.md there also if a person has written it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the files and the card into the run's folder, and send nothing.")
    ] = False,
    root: Root = None,
) -> None:
    """Send what a run has trained for a task to a repository of the Hub.

    A fusion is sent with its adapters. The files and a card (README.md: base,
    method, data, scores with seeds, how to load it) are written into the
    run's folder push/ORG/NAME and listed; then they are sent in one commit.
    The token is that of `hf auth login`, or HF_TOKEN.

    For example:

        graftwork push runs/recipe --task rte --to org/rte --dry-run

        graftwork push runs/recipe --task rte --to org/rte --license apache-2.0
    """
    with one_line():
        from graftwork.hub import Wishes, send
        from graftwork.report import prepare_run
        from graftwork.report.formatting import size

        quiet()
        wishes = Wishes(
            private=private,
            revision=revision,
            message=message,
            license=license,
            tags=tuple(tag or ()),
            base_model=base_model,
            form=format,
            replace_card=replace_card,
        )
        prepared = prepare_run(run, task, to, wishes, kind=kind, seed=seed, root=root)
        put(f"{prepared.title}, in {prepared.folder}:")
        for path, count in prepared.files.items():
            put(f"  {path}  {size(count)}")
        if dry_run:
            put("nothing was sent; the same command without --dry-run sends these files")
            return
        put(f"sending them to {to}, branch {revision or 'main'}")
        put(f"sent: {send(prepared)}")
