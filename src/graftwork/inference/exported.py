"""A task of a run as a program, from the run's files."""

from __future__ import annotations

from pathlib import Path

from graftwork.export import ModelExport
from graftwork.inference.predictor import Predictor


def export_task(
    run: str | Path,
    folder: str | Path,
    task: str | None = None,
    *,
    format: str = "onnx",
    kind: str | None = None,
    seed: int | None = None,
    language: str | None = None,
    root: str | Path | None = None,
    external_data: bool = False,
) -> ModelExport:
    """Write what predicts a task of a run as one program, with its tokenizer and labels; see `graftwork.Adapters.export`.

    Args:
        run: The run's folder.
        folder: The folder that is written.
        task: The task, and with ``kind``, ``seed``, ``language`` and ``root`` what of the run predicts it, as for `Predictor`.
        format: ``"onnx"`` or ``"torch"``.
        kind: The kind of unit, or the method.
        seed: The unit's seed.
        language: The language whose adapter the unit is stacked on.
        root: The folder that the recipe's paths are relative to.
        external_data: Write the weights of ONNX to a file of their own.

    Returns:
        What was written; printable.

    Raises:
        RecipeError: If the run has no such task, or nothing of it is done.
        ExportError: If it cannot be exported; nothing is written then.
        CheckpointError: If the folder holds something else.
    """
    predictor = Predictor(run, task, kind=kind, seed=seed, language=language, root=root)
    return predictor.adapters.export(
        folder,
        format=format,
        processor=predictor.processor,
        max_length=predictor.recipe.base.max_length,
        task={"name": predictor.task, "kind": predictor.spec.kind, "columns": list(predictor.columns)},
        external_data=external_data,
    )
