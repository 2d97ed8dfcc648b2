"""Several adapters learnt at once on one frozen model: one pass over the rows of all tasks, each adapter for itself.

A frozen model's adapters have no weight in common, so the gradient of the sum of their losses is, for each, the gradient of
its own. Each has its own rows, loss, clipping, schedule, optimiser, seed and early stopping, and comes out as if it had
been trained alone; only what is random in a forward pass (dropout) is drawn in another order.
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
from graftwork.training.outputs import autocast_as, measure

CHECKPOINT = "together.pt"  # behind the SHA-256 of its content
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
    """Train several adapters, each with its own task; they end with their best weights.

    Args:
        adapters: The handle of a `ModelWithHeads` model that has the adapters, each with its head.
        learners: What each learns from.
        seed: Of what is random in the passes.
        folder: Where checkpoints are kept, at every end of an epoch; a training that was interrupted goes on from there.
        on_epoch: Is called with the learner, the epoch and the score whenever one has ended an epoch.
        on_step: Is called with the learner whenever one has made a step.

    Returns:
        For each adapter its scores on its dev rows.

    Raises:
        TrainingError: If two share a name or weights, a loss is not a number, or the adapters compute in different
            precisions.
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
    """What `train_together` does, without scoring the best weights once more: for one who measures them by itself."""
    _refuse(adapters, learners)
    names = [learner.name for learner in learners]
    adapters.train_only(names, active=BatchSplit(*names, batch_sizes=[1] * len(names)))
    for learner in learners:
        learner.begin(adapters.model, _weights(adapters, learner.name))
    rounds = _resume(learners, folder)
    autocast = autocast_as(adapters.model, learners[0].budget.bf16)  # type: ignore[arg-type]
    adapters.model.train()
    while live := [learner for learner in learners if not learner.ended]:
        set_seed((seed * 100_003 + rounds + 1) % 2**31)
        with autocast():
            losses = _losses(adapters, live)
        extra = adapters.auxiliary_loss_or_none() if len(live) > 1 else None  # one head's loss has it already
        summed = [*losses, *([] if extra is None else [extra.to(losses[0].device)])]
        torch.stack([loss.float() if loss.dtype != torch.float64 else loss for loss in summed]).sum().backward()
        rounds += 1
        over = [learner for learner, loss in zip(live, losses, strict=True) if _step(learner, loss, on_step)]
        for learner in over:
            learner.scored(_scores(adapters, learner)[learner.encoded.task.metric])
            if on_epoch is not None:
                on_epoch(learner, len(learner.scores), learner.scores[-1])
        if over and folder is not None:
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
    if not isinstance(adapters.model, ModelWithHeads):
        raise TrainingError(
            "several tasks at once need a head for each: attach to gw.ModelWithHeads(base), not to a "
            f"{type(adapters.model).__name__}"
        )
    if len({learner.budget.bf16 for learner in learners}) > 1:
        raise TrainingError("bf16 differs between the adapters; they are computed in one pass, so give all the same")


def _weights(adapters: Adapters, name: str) -> list[Tensor]:
    return [tensor for tensor in tensors_of(adapters, name).values() if tensor.requires_grad]


def _losses(adapters: Adapters, live: Sequence[Learner]) -> list[Tensor]:
    """The loss of each learner over its own rows, in one pass."""
    model: Any = adapters.model
    chosen = [learner.next_batch() for learner in live]
    batches = [
        batch_of(model, learner.encoded.task.kind, features, learner.encoded.processor)
        for learner, features in zip(live, chosen, strict=True)
    ]
    names = [learner.name for learner in live]
    inputs, labels = merged(dict(zip(names, batches, strict=True)), padding_of(live[0].encoded.processor))
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    with adapters.using(BatchSplit(*names, batch_sizes=sizes)):
        output = model(**inputs, labels=labels)
    return [output.loss] if len(live) == 1 else [output.by_head[name].loss for name in names]


def _step(learner: Learner, loss: Tensor, on_step: OnStep | None) -> bool:
    ended = learner.step(loss)
    if on_step is not None:
        on_step(learner)
    return ended


def _scores(adapters: Adapters, learner: Learner) -> dict[str, float]:
    model: Any = adapters.model
    budget = learner.budget
    with adapters.using(learner.name):
        autocast = autocast_as(model, budget.bf16)
        return measure(model, learner.encoded, learner.encoded.task.dev, budget.eval_batch_size, autocast)[0]


def _keep(learners: Sequence[Learner], rounds: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    torch.save({"rounds": rounds, "learners": {learner.name: learner.state() for learner in learners}}, made)
    data = made.getvalue()
    replace_file(folder / CHECKPOINT, hashlib.sha256(data).digest() + data)


def _resume(learners: Sequence[Learner], folder: Path | None) -> int:
    """Go on from a checkpoint where there is one that is whole; the number of rounds so far."""
    path = None if folder is None else folder / CHECKPOINT
    if path is None or not path.is_file():
        return 0
    whole = path.read_bytes()
    digest, data = whole[:_DIGEST], whole[_DIGEST:]
    if hashlib.sha256(data).digest() != digest:
        warnings.warn(f"{path} is damaged, and left out; the training begins anew", stacklevel=3)
        return 0
    saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if set(saved["learners"]) != {learner.name for learner in learners}:
        raise TrainingError(
            f"{path} is of {', '.join(sorted(saved['learners']))}; train the same adapters, or remove it to begin anew"
        )
    for learner in learners:
        learner.resume(saved["learners"][learner.name])
    return int(saved["rounds"])
