"""The command that looks at data and writes a first recipe."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import Command, app, one_line, quiet


@app.command(cls=Command)
def init(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]DATA...",
            help="The rows of a task: a file to train on (.csv, .tsv, .jsonl, .json, .conll, .parquet), or a folder with train, "
            "dev and test files. Give several for several tasks. A task is called as its file, or as NAME.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The pretrained model: a folder, an installed package with a model in it, or a name on the Hub."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The task to be served best; by default the first. The others may lend it something."),
    ] = None,
    dev: Annotated[Path | None, typer.Option(help="The target's rows to choose the best epoch by.")] = None,
    test: Annotated[
        Path | None, typer.Option(help="The target's rows to score on, by which nothing is chosen.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What the target is: classification, multi_label, regression, tagging, ...; by default guessed."
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=COLUMN", help="A column of the target, such as text=message; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the recipe if it is there.")] = False,
) -> None:
    """Look at your data, and write a recipe for it.

    Says what kind of task the columns are, why, and what is wrong with the
    rows: texts that are in train and dev, labels that disagree, empty texts,
    rare labels; each with what to do about it. The recipe has a comment at
    every choice, and `graftwork run` takes it as it is. In a terminal it asks
    for what is not given.

    For example:

        graftwork init complaints.csv --base bert-base-uncased

        graftwork init complaints.csv mood.csv --target complaints --base bert-base-uncased

        graftwork init reviews.tsv --kind regression --column label=stars --base bert-base-uncased
    """
    with one_line():
        from graftwork.checkpoint.folders import replace_file
        from graftwork.errors import RecipeError
        from graftwork.experiments.running.first_look import first_look
        from graftwork.report import print_text

        if out.exists() and not force:
            raise RecipeError(f"{out} is there already; give another --out, or --force to replace it")
        quiet()
        given = data or [_asked("The file or folder with your rows")]
        files = _named(given)
        target = target or (
            next(iter(files))
            if len(files) == 1 or not sys.stdin.isatty()
            else _asked("The task to be served best", next(iter(files)))
        )
        if target not in files:
            raise RecipeError(f"--target {target}: there is no such task; there are {', '.join(files)}")
        for split, path in (("dev", dev), ("test", test)):
            if path is not None:
                files[target][split] = path
        base = base or _asked("The pretrained model (a folder, a package, a name on the Hub)")
        found = first_look(files, base, target, out.parent, kind=kind, columns=_columns(column or ()))
        console = Console()
        for name, guessed in found.guesses.items():
            columns = ", ".join(f"{role} = {column!r}" for role, column in guessed.columns.items())
            unused = f"; not read: {', '.join(map(repr, guessed.unused))}" if guessed.unused else ""
            print_text(f"{name}: {guessed.kind}, because {guessed.why}. Columns: {columns}{unused}.", console)
            for sentence in found.noticed[name]:
                print_text(f"  - {sentence}.", console)
        if found.refused is not None:
            raise found.refused
        print_text(f"Lengths: {found.lengths}.", console)
        replace_file(out, found.recipe.encode("utf-8"))
        lines = [f"{out} is written. Next:", f"  graftwork recommend {out}", f"  graftwork run {out} --dry-run"]
        print_text("\n".join([*lines, f"  graftwork run {out}"]), console)


def _asked(what: str, default: str | None = None) -> str:
    """What the user types; where nobody is at the terminal, an error."""
    from graftwork.errors import RecipeError

    if not sys.stdin.isatty():
        raise RecipeError(
            f"nobody is asked here, and this is not given: {what[0].lower()}{what[1:]}; see graftwork init --help"
        )
    return str(typer.prompt(what, default=default)).strip()


def _named(given: list[str]) -> dict[str, dict[str, Path]]:
    """The files of each task: its name is given before ``=``, or is that of the file."""
    from graftwork.errors import RecipeError

    found: dict[str, dict[str, Path]] = {}
    for one in given:
        name, equals, after = one.partition("=")
        path = Path(after if equals and not Path(one).exists() else one)
        if path == Path(one):
            stem = path.name.partition(".")[0] if path.is_file() else path.resolve().name
            stem = path.resolve().parent.name if stem in ("train", "data") else stem
            name = re.sub(r"[^\w-]+", "-", stem).strip("-") or "task"
        if name in found:
            raise RecipeError(f"{one}: a task is called {name!r} already; give it another name, as NAME={path}")
        if not path.exists():
            raise RecipeError(f"{path} is not there; give a file with rows, or a folder with a train file")
        found[name] = {"data" if path.is_dir() else "train": path}
    return found


def _columns(given: list[str] | tuple[()]) -> dict[str, str]:
    from graftwork.errors import RecipeError

    found = {}
    for one in given:
        role, equals, column = one.partition("=")
        if not equals or not role or not column:
            raise RecipeError(f"--column {one!r} cannot be read; give a role and a column, such as text=message")
        found[role] = column
    return found
