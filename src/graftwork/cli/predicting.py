"""The command that predicts with what a run has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftwork.cli.shared import (
    Command,
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
    say,
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
    root: Root = None,
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
        for answer in answers(predictor, texts or (), file):
            put(json.dumps(answer, ensure_ascii=False))
