"""Running a model over features, in batches of similar lengths; the outputs are in the features' order."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.attach import ModelWithHeads
from graftwork.errors import TrainingError
from graftwork.tasks import Kind, Prediction, Rows, Task
from graftwork.tasks.scoring import find_metric
from graftwork.training.encoding import Encoded, Feature, batch_of
from graftwork.training.precision import DTYPES, Precision

Autocast = Callable[[], Any]  # makes the context that a model runs in


def outputs_of(
    model: ModelWithHeads, kind: Kind, features: Sequence[Feature], processor: Any, batch_size: int, autocast: Autocast
) -> tuple[list[Any], float | None]:
    """The model's output for each feature, as `Kind.decode` takes them, and the mean loss where there are labels.

    What is active in the model is computed; the task's kind decides whether tokens are generated or logits are read.
    """
    lengths = kind.lengths(features)
    order = sorted(range(len(features)), key=lambda n: -lengths[n])
    found: list[Any] = [None] * len(features)
    total, counted = 0.0, 0
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            with torch.no_grad(), autocast():
                outputs, loss = _run(model, kind, [features[n] for n in chosen], processor)
            for n, output in zip(chosen, outputs, strict=True):
                found[n] = output
            if loss is not None:
                total, counted = total + loss * len(chosen), counted + len(chosen)
    return found, total / counted if counted else None


def predictions_of(
    model: ModelWithHeads, encoded: Encoded, rows: Rows, batch_size: int, autocast: Autocast
) -> tuple[list[Prediction], float | None]:
    """The predictions for some rows of a task by what is active in a model, and the mean loss."""
    task, features = encoded.task, encoded.features(rows)
    outputs, loss = outputs_of(model, task.kind, features, encoded.processor, batch_size, autocast)
    return task.decode(outputs, features, rows, encoded.processor), loss


def scored(task: Task, predictions: Sequence[Prediction], rows: Rows) -> dict[str, float]:
    """A task's metrics, each a number."""
    return {name: number(value) for name, value in task.score(predictions, rows).items()}


def chosen(metric: str, task: Task, predictions: Sequence[Prediction], loss: float | None) -> float:
    """What the best epoch is chosen by on the dev rows; higher is better.

    Args:
        metric: A metric of the task's kind, or ``"loss"``.
        task: The task.
        predictions: The predictions for its dev rows.
        loss: The mean loss there.

    Raises:
        TrainingError: If it is the loss, and there is none.
    """
    if metric == "loss":
        if loss is None:
            raise TrainingError(
                f"early_stopping.metric is loss, and {task.name!r} has none on its dev rows; give a metric"
            )
        return -loss
    predicted, gold = task.kind.pairs(predictions, task.dev)
    return number(find_metric(metric, task.kind.form, f"task {task.name!r}")(predicted, gold, task.kind.scored_labels))


def number(score: float) -> float:
    """A score; -1, the worst, for a correlation of constants, which is not a number."""
    return score if math.isfinite(score) else -1.0


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A context with the model in eval mode; afterwards it is in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def autocast_as(model: ModelWithHeads, precision: Precision = "float32") -> Autocast:
    """The context of a precision on a model's device; of nothing for float32."""
    if precision == "float32":
        return contextlib.nullcontext
    return functools.partial(torch.autocast, model.device.type, dtype=DTYPES[precision])


def _run(
    model: ModelWithHeads, kind: Kind, features: Sequence[Feature], processor: Any
) -> tuple[Sequence[Any], float | None]:
    batch = batch_of(model, kind, features, processor)
    if kind.generates:
        loss = float(model(**batch).loss) if "labels" in batch else None
        return list(generated(model, kind, features, processor).cpu()), loss
    output = model(**batch)
    logits = kind.reduce(output.logits, batch.get("labels"))
    return list(logits.float().cpu()), None if output.loss is None or not kind.has_loss else float(output.loss)


def generated(model: ModelWithHeads, kind: Kind, features: Sequence[Feature], processor: Any, **options: Any) -> Tensor:
    """The tokens that a model writes for some features, ``(features, tokens)``; those of a decoder without its prompts.

    What is drawn depends on the task's ``sampling_seed`` alone; the random generators stay as they are.

    Args:
        model: The model; what is active in it is computed.
        kind: The task's kind, which generates.
        features: The features.
        processor: The tokenizer.
        options: More arguments of ``generate``.
    """
    asked = kind.asked(features, processor, for_model=model.base)
    inputs = {key: value.to(model.device) if isinstance(value, Tensor) else value for key, value in asked.items()}
    with torch.random.fork_rng(enabled=bool(inputs.get("do_sample"))):
        if inputs.get("do_sample"):
            torch.manual_seed(kind.spec.sampling_seed)
        tokens: Tensor = model.generate(**inputs, **options)
    return tokens if model.config.is_encoder_decoder else tokens[:, inputs["input_ids"].shape[1] :]
