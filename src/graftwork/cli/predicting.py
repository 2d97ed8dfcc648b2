"""The command that predicts with what a run has trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from graftwork.cli.shared import (
    BatchSize,
    Command,
    Device,
    Language,
    MaxNewTokens,
    NumBeams,
    Root,
    RunFolder,
    SamplingSeed,
    Temperature,
    TopK,
    TopP,
    UnitKindName,
    UnitSeed,
    app,
    one_line,
    put,
    quiet,
    refuse_folder,
    say,
    use_device,
)


@app.command(cls=Command)
def predict(
    run: RunFolder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="What the task reads: a text, a pair, a question and its context, ..."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="The task; by default the run's one target or task, else the one that is found for the texts."
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Several tasks, separated by commas: each predicts the same text, in one pass."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file of rows instead of texts: .csv, .tsv, .jsonl, .json, .conll, .parquet.")
    ] = None,
    kind: UnitKindName = None,
    seed: UnitSeed = None,
    language: Language = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    max_new_tokens: MaxNewTokens = None,
    num_beams: NumBeams = None,
    sampling_seed: SamplingSeed = None,
    batch_size: BatchSize = 32,
    output: Annotated[
        Path | None, typer.Option(help="Write the predictions into this file instead: .jsonl, or .csv.")
    ] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Show on stderr how many rows are done.")] = False,
    device: Device = None,
    root: Root = None,
) -> None:
    """Predict with what a run has trained; one line of JSON for each row.

    Without --task, the task of the text is found among several tasks of the
    run and printed to stderr; where it is not clear, the command fails.

    For example:

        graftwork predict runs/recipe --task rte "A cat sleeps." "An animal rests."

        graftwork predict runs/recipe --task rte --file rows.jsonl

        graftwork predict runs/recipe --task rte --file rows.csv --output predicted.csv --batch-size 64 --progress

        graftwork predict runs/recipe "Ada was glad."

        graftwork predict runs/recipe --tasks sentiment,names "Ada was glad."
    """
    with one_line():
        use_device(device)
        _check_output(output)
        import json

        from graftwork.checkpoint.folders import replace_file
        from graftwork.errors import RecipeError
        from graftwork.inference import Predictor, Several, answers, predictor_for
        from graftwork.inference.requests import as_csv

        quiet()
        predictor: Predictor | Several
        if tasks is None and task is None and texts and file is None:
            predictor, found = predictor_for(run, texts, kind=kind, seed=seed, language=language, root=root)
            if found is not None:
                say(f"task: {found.name} (scores: {found.scores})")
        elif tasks is None:
            predictor = Predictor(run, task, kind=kind, seed=seed, language=language, root=root)
        elif task is not None or kind is not None or language is not None:
            raise RecipeError(
                "--tasks predicts by each task's fusion or adapter; leave --task, --kind and --language out"
            )
        else:
            predictor = Several(run, [name.strip() for name in tasks.split(",")], seed=seed, root=root)
        options = {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "max_new_tokens": max_new_tokens,
            "num_beams": num_beams,
            "sampling_seed": sampling_seed,
        }
        if isinstance(predictor, Predictor):
            predictor.generate_with(**options)
        elif any(value is not None for value in options.values()):
            raise RecipeError(
                "--tasks predicts tasks whose answers are not generated; leave the options of generation out"
            )
        with _shown(progress) as on_rows:
            answered = answers(predictor, texts or (), file, batch_size=batch_size, on_rows=on_rows)
            if output is None:
                for answer in answered:
                    put(json.dumps(answer, ensure_ascii=False))
                return
            kept = [*answered]
        if output.suffix == ".csv":
            text = as_csv(kept)
        else:
            text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in kept)
        replace_file(output, text.encode("utf-8", "backslashreplace"))
        say(f"{len(kept)} predictions are in {output}")


def _check_output(output: Path | None) -> None:
    """Refuse a file that cannot be written, before anything is computed."""
    from graftwork.errors import ConfigError

    refuse_folder(output, "--output")
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"--output {output}: its ending says what is written; give one that ends in .csv or .jsonl")


@contextlib.contextmanager
def _shown(wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """What shows how many rows of a file are done; nothing where that is not wanted."""
    if not wanted:
        yield None
        return
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.completed} of {task.total} rows"), BarColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        shown = bar.add_task("rows", total=None)
        yield lambda done, every: bar.update(shown, completed=done, total=every)
