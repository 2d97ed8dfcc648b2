"""From features to padded tensors, and from tensors to arrays."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graftwork.errors import TaskError

IGNORED = -100


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of numbers as a tensor ``(rows, longest)``.

    Padded on the right whatever the tokenizer prefers: positions of a row then have the same number in every batch, and
    padding on the left only matters to a model that continues its input.
    """
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.long)


def pad_tokens(features: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, Tensor]:
    """The inputs that a tokenizer makes, each ``(features, longest)``; anything else in the features is left out."""
    padded = {}
    for key in tokenizer.model_input_names:
        if all(key in feature for feature in features):
            padded[key] = pad([feature[key] for feature in features], padding_of(key, tokenizer))
    # a tokenizer without padding of its own, as GPT-2's, is seen by the mask alone
    if "attention_mask" not in padded:
        padded["attention_mask"] = pad([[1] * len(feature["input_ids"]) for feature in features], 0)
    return padded


def padding_of(key: str, tokenizer: Any) -> int:
    """The value that a tokenizer's input of some name is padded with."""
    if key == "input_ids":
        return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return int(getattr(tokenizer, "pad_token_type_id", 0)) if key == "token_type_ids" else 0


def labelled(features: Sequence[dict[str, Any]]) -> bool:
    """Whether all features have labels: a batch has them for every row or for none."""
    return all("labels" in feature for feature in features)


def taken(batch: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The part of a batch that a model's ``forward`` takes by name; everything where that is not known."""
    if model is None:
        return batch
    parameters = inspect.signature(model.forward).parameters
    if not {"input_ids", "pixel_values"} & set(parameters):
        return batch
    return {key: value for key, value in batch.items() if key in parameters or key == "labels"}


def finished(
    batch: dict[str, Tensor], features: Sequence[dict[str, Any]], model: Any, *, padded: bool = False
) -> dict[str, Tensor]:
    """A batch of inputs with the labels of its features, if all have labels; without the keys that a model does not take.

    Where labels are lists of several lengths they are ``padded`` with a number that losses ignore.
    """
    if labelled(features):
        labels = [feature["labels"] for feature in features]
        batch["labels"] = pad(labels, IGNORED) if padded else torch.tensor(labels)
    return taken(batch, model)


def array(output: Any) -> np.ndarray:
    """A model's output as an array in double precision, or of whole numbers if it has these."""
    if isinstance(output, Tensor):
        output = output.detach().cpu()
        output = output.double().numpy() if output.is_floating_point() else output.numpy()
    found = np.asarray(output)
    return found if np.issubdtype(found.dtype, np.integer) else found.astype(np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def same_count(outputs: Sequence[Any], features: Sequence[Any], what: str = "features") -> None:
    """Refuse outputs that are not one for each feature or row."""
    if len(outputs) != len(features):
        raise TaskError(f"{len(outputs)} outputs for {len(features)} {what}; give one for each, cut out of its batch")
