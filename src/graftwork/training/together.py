"""Training several adapters at once on one frozen model, in one forward pass over the rows of all tasks.

The adapters have no weight in common, so the gradient of the sum of their losses is, for each, the gradient of its own
loss. Each has its own rows, loss, clipping, schedule, optimiser, seed and early stopping, and comes out as if it had been
trained alone; only what is random in a forward pass (dropout) is drawn in another order.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import set_seed

from graftwork.api import Adapters
from graftwork.attach import ModelWithHeads
from graftwork.checkpoint.folders import replace_file
from graftwork.checkpoint.naming import tensors_of
from graftwork.compose import BatchSplit
from graftwork.errors import TrainingError
from graftwork.training.adapter_learner import Learner
from graftwork.training.concatenated_batches import merged, padding_of
from graftwork.training.encoding import batch_of
from graftwork.training.outputs import autocast_as, predictions_of, scored

CHECKPOINT = "together.pt"  # the SHA-256 of its content, then the content
_DIGEST = hashlib.sha256().digest_size

OnEpoch = Callable[[Learner, int, float], None]
OnStep = Callable[[Learner], None]


def train_together(
    adapters: Adapters,
    learners: Sequence[Learner],
    *,
    seed: int = 0,
    folder: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
) -> dict[str, dict[str, float]]:
    """Train several adapters, each on its own task; they end with their best weights.

    Args:
        adapters: The handle of a `ModelWithHeads` model that has the adapters, each with its head.
        learners: The adapters' tasks and budgets.
        seed: Seed of what is random in the forward passes.
        folder: Where a checkpoint is written at every end of an epoch; an interrupted training resumes from there.
        on_epoch: Called with the learner, the epoch and the score whenever a learner has ended an epoch.
        on_step: Called with the learner whenever a learner has made a step.

    Returns:
        The scores of each adapter on its dev rows.

    Raises:
        TrainingError: If two have the same name, a loss is not a number, or the budgets ask for different precisions.
    """
    learn_together(adapters, learners, seed=seed, folder=folder, on_epoch=on_epoch, on_step=on_step)
    return {learner.name: _scores(adapters, learner) for learner in learners}


def learn_together(
    adapters: Adapters,
    learners: Sequence[Learner],
    *,
    seed: int = 0,
    folder: Path | None = None,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
) -> None:
    """Do what `train_together` does, without scoring the best weights at the end."""
    _refuse(adapters, learners)
    names = [learner.name for learner in learners]
    adapters.train_only(names, active=BatchSplit(*names, batch_sizes=[1] * len(names)))
    for learner in learners:
        weights = [tensor for tensor in tensors_of(adapters, learner.name).values() if tensor.requires_grad]
        learner.begin(adapters.model, weights)
    rounds = _resume(learners, folder)
    model: Any = adapters.model
    autocast = autocast_as(model, learners[0].budget.precision_on(model.device, scales=False))
    adapters.model.train()
    while live := [learner for learner in learners if not learner.ended]:
        set_seed((seed * 100_003 + rounds + 1) % 2**31)
        with autocast():
            losses = _losses(adapters, live)
        extra = adapters.auxiliary_loss_or_none() if len(live) > 1 else None  # the loss of one head includes it
        summed = [*losses, *([] if extra is None else [extra.to(losses[0].device)])]
        torch.stack([loss.float() if loss.dtype != torch.float64 else loss for loss in summed]).sum().backward()
        rounds += 1
        at_epoch_end = []
        for learner, loss in zip(live, losses, strict=True):
            if learner.step(loss):
                at_epoch_end.append(learner)
            if on_step is not None:
                on_step(learner)
        for learner in at_epoch_end:
            learner.scored(_scores(adapters, learner)[learner.encoded.task.metric])
            if on_epoch is not None:
                on_epoch(learner, len(learner.scores), learner.scores[-1])
        if at_epoch_end and folder is not None:
            _keep(learners, rounds, folder)
    for learner in learners:
        learner.keep_best()


def _refuse(adapters: Adapters, learners: Sequence[Learner]) -> None:
    names = [learner.name for learner in learners]
    if not names:
        raise TrainingError("there is nothing to train; give one Learner or more")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrainingError(f"{twice[0]!r} learns twice; give each task an adapter of its own")
    blocks = next((one for one in learners if one.encoded.task.spec.packing), None)
    if blocks is not None:
        raise TrainingError(
            f"{blocks.name!r} is trained on blocks of several rows (packing), which cannot be in a batch with rows of other "
            "tasks; leave packing out"
        )
    if not isinstance(adapters.model, ModelWithHeads):
        raise TrainingError(
            "several tasks at once need a head for each: attach to gw.ModelWithHeads(base), not to a "
            f"{type(adapters.model).__name__}"
        )
    precisions = {learner.budget.precision_on(adapters.model.device, scales=False) for learner in learners}
    if len(precisions) > 1:
        raise TrainingError("bf16 differs between the adapters; they are computed in one pass, so give all the same")
    if "float16" in precisions:
        raise TrainingError(
            "precision is float16, which several adapters in one pass are not trained in; say bfloat16 or auto"
        )


def _losses(adapters: Adapters, live: Sequence[Learner]) -> list[Tensor]:
    """The loss of each learner over its own rows, in one pass."""
    model: Any = adapters.model
    batches = {
        learner.name: batch_of(model, learner.encoded.task.kind, learner.next_batch(), learner.encoded.processor)
        for learner in live
    }
    inputs, labels = merged(batches, padding_of(live[0].encoded.processor))
    sizes = [len(next(iter(batch.values()))) for batch in batches.values()]
    with adapters.using(BatchSplit(*batches, batch_sizes=sizes)):
        output = model(**inputs, labels=labels)
    return [output.loss] if len(live) == 1 else [output.by_head[name].loss for name in batches]


def _scores(adapters: Adapters, learner: Learner) -> dict[str, float]:
    """The metrics of a learner's adapter on its dev rows."""
    model: Any = adapters.model
    encoded, budget = learner.encoded, learner.budget
    autocast = autocast_as(model, budget.precision_on(model.device, scales=False))
    with adapters.using(learner.name):
        predictions, _ = predictions_of(model, encoded, encoded.task.dev, budget.eval_batch_size, autocast)
    return scored(encoded.task, predictions, encoded.task.dev)


def _keep(learners: Sequence[Learner], rounds: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"rounds": rounds, "learners": {learner.name: learner.state() for learner in learners}}, buffer)
    data = buffer.getvalue()
    replace_file(folder / CHECKPOINT, hashlib.sha256(data).digest() + data)


def _resume(learners: Sequence[Learner], folder: Path | None) -> int:
    """Resume from the checkpoint if there is one that is undamaged; return the number of rounds so far."""
    path = None if folder is None else folder / CHECKPOINT
    if path is None or not path.is_file():
        return 0
    whole = path.read_bytes()
    digest, data = whole[:_DIGEST], whole[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        warnings.warn(f"{path} is damaged and is ignored; the training begins anew", stacklevel=3)
        return 0
    saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if set(saved["learners"]) != {learner.name for learner in learners}:
        raise TrainingError(
            f"{path} is of {', '.join(sorted(saved['learners']))}; train the same adapters, or remove it to begin anew"
        )
    for learner in learners:
        learner.resume(saved["learners"][learner.name])
    return int(saved["rounds"])
