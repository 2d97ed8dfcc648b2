"""The command that scores what a run has trained on a file of labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graftwork.cli.shared import (
    BatchSize,
    Command,
    Device,
    Language,
    Root,
    RunFolder,
    UnitKindName,
    UnitSeed,
    app,
    one_line,
    quiet,
    refuse_folder,
    use_device,
)


@app.command(cls=Command)
def evaluate(
    run: RunFolder,
    file: Annotated[
        Path, typer.Option(help="The rows with their right answers: .csv, .tsv, .jsonl, .json, .conll, .parquet.")
    ],
    task: Annotated[str | None, typer.Option(help="The task; by default the run's one target or task.")] = None,
    kind: UnitKindName = None,
    seed: UnitSeed = None,
    language: Language = None,
    errors: Annotated[
        Path | None, typer.Option(help="Write the rows that are wrong into this CSV file, the surest first.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures into this file as JSON.")] = None,
    batch_size: BatchSize = 32,
    device: Device = None,
    root: Root = None,
) -> None:
    """Score what a run has trained on labelled rows, and show where it is wrong.

    Prints the task's metrics; for labels also precision, recall and F1 of
    each, which labels are taken for which, and whether the probabilities can
    be relied on (the expected calibration error); for numbers how far they
    are off. Nothing is trained or chosen by these rows.

    For example:

        graftwork evaluate runs/recipe --task rte --file labelled.csv

        graftwork evaluate runs/recipe --task rte --file labelled.csv --errors errors.csv --json scores.json
    """
    with one_line():
        use_device(device)
        import json as writer

        from graftwork.checkpoint.folders import replace_file
        from graftwork.inference import Predictor
        from graftwork.inference.evaluating import evaluate
        from graftwork.report import print_table
        from graftwork.report.evaluation import evaluation_tables
        from graftwork.tasks import read_rows

        refuse_folder(errors, "--errors")
        refuse_folder(json, "--json")
        quiet()
        rows = read_rows(file)
        predictor = Predictor(run, task, kind=kind, seed=seed, language=language, root=root)
        found = evaluate(predictor, rows, batch_size=batch_size)
        if errors is not None:
            replace_file(errors, found.errors_csv().encode("utf-8", "backslashreplace"))
        if json is not None:
            replace_file(json, (writer.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n").encode())
        console = Console()
        for table in evaluation_tables(found):
            print_table(table, console)
