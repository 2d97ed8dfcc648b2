"""The inputs of an exported program: which there are, and which of their sizes are free."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.errors import ExportError, SiteError
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.sites.discovery.example_inputs import inputs_for

ROWS = "batch"
_TRACED = (2, 7)  # rows and positions of the batch that is traced
_COMPARED = ((1, 3), (3, 11), (2, 6))  # those of the batches that are compared


class Inputs:
    """Example inputs of a model by name, and their free sizes.

    Args:
        model: The model.
        given: Example inputs of the user's, or ``None``.
        decodes: Whether the decoder's inputs are among the inputs, where the model has a decoder.
        names: The names of the inputs that a tokenizer gives, where it is known.

    Raises:
        ExportError: If none are given and none can be made, or one is no tensor.
    """

    def __init__(
        self, model: nn.Module, given: Mapping[str, Any] | None, *, decodes: bool, names: Sequence[str] = ()
    ) -> None:
        self.example = _made(model, decodes, names) if given is None else dict(given)
        for name, value in self.example.items():
            if not isinstance(value, Tensor) or value.dim() == 0:
                raise ExportError(f"example_inputs[{name!r}] is {value!r}; give tensors with the rows first")
        if not self.example:
            raise ExportError(
                f"no inputs can be made up for {type(model).__name__}; give some as example_inputs, tensors by their names"
            )
        limit = _longest(model)
        self.limits = {ROWS: None, "length": limit, "decoder_length": limit}

    @property
    def free(self) -> dict[str, dict[int, str]]:
        """The free sizes of each input: the rows, and the length where it has tokens; by dimension."""
        return {name: _free(name, tensor) for name, tensor in self.example.items()}

    def shapes(self) -> dict[str, dict[int, Any]]:
        """The same as `torch.export` takes them."""
        used = {size for sizes in self.free.values() for size in sizes.values()}
        dims = {size: torch.export.Dim(size, min=1, max=self.limits[size]) for size in sorted(used)}
        return {name: {dim: dims[size] for dim, size in sizes.items()} for name, sizes in self.free.items()}

    def traced(self) -> dict[str, Tensor]:
        """The batch that is traced."""
        return self._batch(*_TRACED)

    def compared(self) -> list[dict[str, Tensor]]:
        """Batches of other sizes, the first row of which is padded where there is a mask."""
        return [self._batch(rows, positions) for rows, positions in _COMPARED]

    def _batch(self, rows: int, positions: int) -> dict[str, Tensor]:
        positions = min(positions, self.limits["length"] or positions)
        batch = {}
        for name, tensor in self.example.items():
            made = tensor[torch.arange(rows) % len(tensor)]
            if 1 in self.free[name]:
                made = _of_length(made, positions)
            if name.endswith("attention_mask") and positions > 2:
                made = made.clone()
                made[0, positions // 2 + 1 :] = 0
            batch[name] = made
        return batch


def _free(name: str, tensor: Tensor) -> dict[int, str]:
    found = {0: ROWS}
    if tensor.dim() > 1 and not tensor.is_floating_point():
        found[1] = "decoder_length" if name.startswith("decoder_") else "length"
    return found


def _of_length(tensor: Tensor, length: int) -> Tensor:
    """Tokens of another length: each row begins elsewhere in its own, and its last one stays, which may be an end token."""
    whole = tensor.shape[1]
    rows = []
    for n, row in enumerate(tensor):
        inner = (torch.arange(length - 1) + n) % max(whole - 1, 1)
        rows.append(torch.cat([row[inner], row[-1:]]))
    return torch.stack(rows)


def _made(model: nn.Module, decodes: bool, names: Sequence[str]) -> dict[str, Tensor]:
    """Inputs made from the model's configuration, with the mask, and the segments where it has any."""
    try:
        made = inputs_for(model)
    except SiteError as error:
        raise ExportError(str(error)) from error
    inner = model.base if isinstance(model, ModelWithHeads) else model
    taken = inspect.signature(inner.forward).parameters
    if not decodes:
        made.pop("decoder_input_ids", None)
    ids = made.get("input_ids")
    if ids is None:
        return made
    found = {"input_ids": ids}
    wanted = names or (["attention_mask"] + ["token_type_ids"] * (_segments(model) > 1))
    if "attention_mask" in taken and "attention_mask" in wanted:
        found["attention_mask"] = torch.ones_like(ids)
    if "token_type_ids" in taken and "token_type_ids" in wanted:
        found["token_type_ids"] = torch.zeros_like(ids)
    return {**found, **made}


def _segments(model: nn.Module) -> int:
    return int(getattr(getattr(model, "config", None), "type_vocab_size", None) or 0)


def _longest(model: nn.Module) -> int | None:
    """The most positions that a text can have, ``None`` where the model sets no limit."""
    config = getattr(model, "config", None)
    found = [n for n in [getattr(config, "max_position_embeddings", None)] if isinstance(n, int) and n > 0]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            taken = 0 if module.padding_idx is None else module.padding_idx + 1  # positions count from there on
            found.append(module.num_embeddings - taken)
    return min(found, default=None)
