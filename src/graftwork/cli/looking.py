"""Commands that show a run: tables in the terminal, one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, RunFolder, app, one_line, put


@app.command(cls=Command)
def show(
    run: RunFolder,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    plots: Annotated[
        bool | None,
        typer.Option(help="Write tables and plots into the run's folder; by default plots only where matplotlib is."),
    ] = None,
) -> None:
    """Show the verdict and the results of a run, also while it is trained.

    For example:

        graftwork show runs/recipe
    """
    with one_line():
        from graftwork.report import gather, print_files, print_tables, write_report

        found, console = gather(run, evidence=not json), Console()
        if json:
            import json as writer

            more = {} if found.comparison is None else {"comparison": found.comparison}
            typer.echo(writer.dumps({**found.results, **more}, indent=1))
            return
        print_tables(found, console)
        if plots is not False:
            print_files(write_report(run, plots=plots), console)


@app.command(cls=Command)
def report(
    run: RunFolder,
    to: Annotated[
        Path | None, typer.Option(help="The file; by default report.html in the run's folder.", show_default=False)
    ] = None,
    texts: Annotated[
        bool,
        typer.Option(
            "--texts/--no-texts", help="Whether texts of the data's rows are on the page, or only their numbers."
        ),
    ] = True,
) -> None:
    """Write a run as one page of HTML, to be sent as it is.

    At the top stands whether the fusion helps on each target, against which
    control, and how sure that is; then the scores, what the fusion looks at,
    labels, the rows that became right and wrong, curves, costs and the
    recipe. The file needs no other files and no network, is made for screens
    of any size, bright or dark, and prints.

    For example:

        graftwork report runs/recipe --to rte.html

        graftwork report runs/recipe --to rte.html --no-texts
    """
    with one_line():
        from graftwork.report import write_page

        put(str(write_page(run, to, texts=texts)))
