"""The command that exports what a run has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graftwork.cli.shared import Command, Language, Root, RunFolder, UnitKindName, UnitSeed, app, one_line, put, quiet


@app.command(cls=Command)
def export(
    run: RunFolder,
    to: Annotated[Path, typer.Option(help="The folder that is written.")],
    task: Annotated[str | None, typer.Option(help="The task; by default the run's one target or task.")] = None,
    format: Annotated[str, typer.Option(help="onnx, or torch: a program for torch.export.load.")] = "onnx",
    kind: UnitKindName = None,
    seed: UnitSeed = None,
    language: Language = None,
    external_data: Annotated[
        bool,
        typer.Option(
            "--external-data",
            help="Write the weights of ONNX to a file of their own; done anyway where they are too large for one.",
        ),
    ] = False,
    root: Root = None,
) -> None:
    """Write what a run has trained for a task as one program, which runs without this library.

    The folder has the program with its head, the tokenizer, and export.json,
    which says the inputs, the outputs, the labels and the longest text. The
    program takes batches of any size and texts of any length. LoRAs are in
    the weights of the base, fusions are folded. Its outputs are compared with
    the model's before the folder is put in place.

    For example:

        graftwork export runs/recipe --task rte --to rte-onnx

        graftwork export runs/recipe --task rte --to rte-torch --format torch --kind adapter
    """
    with one_line():
        from graftwork.inference import export_task

        quiet()
        put(
            str(
                export_task(
                    run,
                    to,
                    task,
                    format=format,
                    kind=kind,
                    seed=seed,
                    language=language,
                    root=root,
                    external_data=external_data,
                )
            )
        )
