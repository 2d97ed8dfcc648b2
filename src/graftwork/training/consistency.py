"""A Trainer with which the predictions of two forward passes agree (AdaMix, Wang et al. 2022, arXiv:2205.12410).

    loss + w · ½ (KL(p ‖ q) + KL(q ‖ p))            p and q: the predictions of the two passes

Both passes have the same batch. What is random in them differs: which bottlenecks of an AdaMix are used, and dropout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graftwork.attach import added_apart
from graftwork.errors import ConfigError, TrainingError
from graftwork.forward.extra_losses import predicts_next
from graftwork.options import is_number
from graftwork.training.trainer import AdapterTrainer

_IGNORED = -100


class ConsistencyTrainer(AdapterTrainer):
    """An `AdapterTrainer` that adds how far two passes' predictions are apart to the loss of the first; a step costs two passes.

    For classifiers and language models: what has ``logits`` over several classes.

    Args:
        args: Those of `AdapterTrainer`.
        consistency: The weight w; 1 in the authors' code.
        kwargs: Those of `AdapterTrainer`.

    Raises:
        ConfigError: If the weight is refused.
        TrainingError: If the model's output has no such logits (at the first step).

    Example:
        >>> trainer = ConsistencyTrainer(model=model, args=arguments, train_dataset=rows)  # doctest: +SKIP
    """

    def __init__(self, *args: Any, consistency: float = 1.0, **kwargs: Any) -> None:
        if not is_number(consistency) or consistency < 0:
            raise ConfigError(f"ConsistencyTrainer: consistency is {consistency!r}; give a number of 0 or more")
        super().__init__(*args, **kwargs)
        self.consistency = float(consistency)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of `AdapterTrainer`, plus in training how far two passes are apart."""
        given = dict(inputs)  # Trainer takes the labels out where it smooths them
        result = super().compute_loss(model, inputs, return_outputs or model.training, num_items_in_batch)
        if not model.training:
            return result
        loss, outputs = result
        with added_apart(self.adapters.runtime):
            again = model(**given)
        apart = symmetric_kl(_logits(outputs), _logits(again))
        extra = self.consistency * _mean(apart, given.get("labels"), predicts_next(self.model))
        loss = loss + self.share_of_step(extra, num_items_in_batch).to(loss.device)
        return (loss, outputs) if return_outputs else loss


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """Return ``½ (KL(p ‖ q) + KL(q ‖ p))`` ``(…,)`` of two sets of logits ``(…, classes)``, in float32 or wider.

    Each is pulled towards the other as it is: the first argument of a KL has no gradient, as in the authors' code.
    """
    wide = torch.promote_types(one.dtype, torch.float32)
    log_p, log_q = (logits.to(wide).log_softmax(-1) for logits in (one, other))
    p, q = log_p.detach(), log_q.detach()
    return 0.5 * (p.exp() * (p - log_q) + q.exp() * (q - log_p)).sum(-1)


def _mean(apart: Tensor, labels: Any, shifted: bool) -> Tensor:
    """The mean over rows, or over the tokens that have labels."""
    if not isinstance(labels, Tensor) or apart.dim() < 2 or labels.shape != apart.shape:
        return apart.mean()
    counted = labels.ne(_IGNORED)
    if shifted:  # the prediction of a label is at the position before it
        apart, counted = apart[:, :-1], counted[:, 1:]
    return (apart * counted).sum() / counted.sum().clamp(min=1)


def _logits(outputs: Any) -> Tensor:
    """The logits of an output.

    Raises:
        TrainingError: If it has none over several classes.
    """
    logits = getattr(outputs, "logits", None)
    if isinstance(logits, Tensor) and logits.shape[-1] > 1:
        return logits
    has = f"logits {tuple(logits.shape)}" if isinstance(logits, Tensor) else "no logits"
    raise TrainingError(
        f"ConsistencyTrainer compares predictions over several classes, and the output, a {type(outputs).__name__}, has {has}; "
        "use AdapterTrainer"
    )
