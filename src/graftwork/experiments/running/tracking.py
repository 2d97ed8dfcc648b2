"""Trackers of experiments that a recipe names: a run of theirs for each training, and one for the table of results.

The curves are written by the callbacks of transformers; here are the runs that these write into. One that is open when a callback
begins is used by it, so each training has its own, with a name that says which it is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from graftwork.experiments.planning.tables import TrackingTable
from graftwork.experiments.running.run_files import RunFiles

_PROJECT = "graftwork"
_COLUMNS = ("task", "kind", "method", "metric", "scored_on", "mean", "sd", "trained_weights")


def tracker_callbacks(files: RunFiles, what: str) -> list[TrainerCallback]:
    """The callbacks of the trackers of a recipe, for one Trainer.

    Args:
        files: The files of the run.
        what: The name of what is trained, also the folder of TensorBoard's logs.
    """
    trackers = _trackers(files)
    found: list[TrainerCallback] = []
    if "tensorboard" in trackers:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        found.append(TensorBoardCallback(SummaryWriter(log_dir=str(_logs(files, what)))))  # outlives the checkpoints
    if "wandb" in trackers:
        from transformers.integrations.integration_utils import WandbCallback

        found.append(WandbCallback())
    if "mlflow" in trackers:
        from transformers.integrations.integration_utils import MLflowCallback

        found.append(MLflowCallback())
    return found


def log(
    callbacks: list[TrainerCallback], args: TrainingArguments, model: Any, step: int, values: Mapping[str, float]
) -> None:
    """Write values of a training that has no Trainer."""
    for one in callbacks:
        one.on_log(args, TrainerState(global_step=step), TrainerControl(), logs=dict(values), model=model)


def end_log(callbacks: list[TrainerCallback], args: TrainingArguments) -> None:
    """Close what `log` wrote into."""
    for one in callbacks:
        one.on_train_end(args, TrainerState(), TrainerControl())


@contextlib.contextmanager
def tracked(files: RunFiles, what: str) -> Iterator[None]:
    """Open a run of each tracker of a recipe, which ends with the block; an error in the block is its state there too."""
    table, name = files.recipe.tracking, files.recipe.tracking.name or files.run.resolve().name
    with contextlib.ExitStack() as opened:
        for tracker in _trackers(files):
            if tracker in _OPEN:
                opened.enter_context(_OPEN[tracker](table, name, what, files.run.resolve()))
        yield


def log_results(files: RunFiles, results: Mapping[str, Any]) -> None:
    """Write the rows of a run's results, as a run of each tracker with the name ``results``."""
    trackers = _trackers(files)
    if not trackers:
        return
    rows = [row for table in ("languages", "knowledge", "sources", "targets") for row in results[table]]
    cells = [[row.get(column) for column in _COLUMNS] for row in rows]
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *cells]
    text = "\n".join(f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |" for line in lines)
    with tracked(files, "results"):
        if "tensorboard" in trackers:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(log_dir=str(_logs(files, "results"))) as writer:
                writer.add_text("results", text)
        if "wandb" in trackers:
            import wandb

            wandb.log({"results": wandb.Table(columns=[*_COLUMNS], data=cells, allow_mixed_types=True)})
        if "mlflow" in trackers:
            import mlflow

            mlflow.log_text(text, "results.md")


def _trackers(files: RunFiles) -> tuple[str, ...]:
    """The trackers of a recipe; none in all but the first of several processes that train one unit together."""
    return files.recipe.trackers if os.environ.get("RANK", "0") == "0" else ()


def _logs(files: RunFiles, what: str) -> Path:
    return files.run / "tensorboard" / what


@contextlib.contextmanager
def _wandb(table: TrackingTable, name: str, what: str, run: Path) -> Iterator[None]:
    import wandb

    project = table.project or os.environ.get("WANDB_PROJECT") or _PROJECT
    quiet = wandb.Settings(silent=True, console="off")  # the terminal has a view of the run
    folder = os.environ.get("WANDB_DIR") or str(run)
    wandb.init(project=project, name=f"{name}/{what}", group=name, dir=folder, settings=quiet)
    try:
        yield
    except BaseException:
        wandb.finish(exit_code=1)
        raise
    wandb.finish()


@contextlib.contextmanager
def _mlflow(table: TrackingTable, name: str, what: str, run: Path) -> Iterator[None]:
    import mlflow

    project = table.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or _PROJECT
    own = not (os.environ.get("MLFLOW_TRACKING_URI") or mlflow.is_tracking_uri_set())
    if own:
        mlflow.set_tracking_uri(f"sqlite:///{run / 'mlflow.db'}")
    try:
        artifacts = (run / "mlartifacts").as_uri() if own else None
        with mlflow.start_run(experiment_id=_experiment(project, artifacts), run_name=f"{name}/{what}"):
            yield
    finally:
        if own:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it was: it is also taken out of the environment


def _experiment(project: str, artifacts: str | None) -> str:
    """The id of an experiment of MLflow, which another worker may make at the same time."""
    import mlflow

    if (found := mlflow.get_experiment_by_name(project)) is None:
        try:
            made: str = mlflow.create_experiment(project, artifact_location=artifacts)
            return made
        except mlflow.exceptions.MlflowException:
            found = mlflow.get_experiment_by_name(project)
            if found is None:
                raise
    return str(found.experiment_id)


_OPEN: dict[str, Callable[[TrackingTable, str, str, Path], contextlib.AbstractContextManager[None]]]
_OPEN = {"wandb": _wandb, "mlflow": _mlflow}
