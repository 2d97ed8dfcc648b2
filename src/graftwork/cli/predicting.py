"""The command that predicts with what a run has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftwork.cli.shared import Command, RunFolder, app, one_line, put, quiet, say


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
    kind: Annotated[
        str | None,
        typer.Option(
            help="fusion, adapter, head, ..., or a method of the recipe; by default the fusion, else the adapter."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training; by default the first.")] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="The language of the rows, where the task is stacked on a language's adapter; by default its own."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="The folder that the recipe's paths are relative to, where the run or its base was moved.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Predict with what a run has trained; one line of JSON for each row.

    Without --task, the task of the text is found among several tasks of the
    run and printed to stderr; where it is not clear, the command fails.

    For example:

        graftwork predict runs/recipe --task rte "A cat sleeps." "An animal rests."

        graftwork predict runs/recipe --task rte --file rows.jsonl

        graftwork predict runs/recipe "Ada was glad."

        graftwork predict runs/recipe --tasks sentiment,names "Ada was glad."
    """
    with one_line():
        import json

        from graftwork.errors import RecipeError
        from graftwork.inference import Predictor, Several, answers, predictor_for

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
        for answer in answers(predictor, texts or (), file):
            put(json.dumps(answer, ensure_ascii=False))
