"""The inputs of a run at other sizes: more rows, other lengths, larger images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from graftwork.sites.discovery.example_inputs import Run

_ROWS, _SIDES = 3, 2  # how often rows are repeated, and how much larger the sides of images are
_TOKENS = ("input_ids", "decoder_input_ids")


def varied(run: Run) -> Iterator[Run]:
    """The run with more rows and other sizes at once, for each guess of its lengths; best first."""
    return map(with_more_rows, with_other_sizes(run))


def with_more_rows(run: Run) -> Run:
    """The run with more rows of the same sizes, for a model that takes one size alone.

    A tensor is repeated if its first dimension is the batch, or a multiple of it (patches of several images in one).
    """
    tensors = _tokens(run)[:1] or _tensors(run)
    rows = min((int(tensor.shape[0]) for tensor in tensors), default=1)

    def repeat(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[0] % max(rows, 1):
            return tensor
        return tensor.repeat(_ROWS, *[1] * (tensor.dim() - 1))

    return _resized(run, repeat)


def with_other_sizes(run: Run) -> Iterator[Run]:
    """The run with as many rows of other sizes, for a model that takes one number of rows alone."""
    for lengths in _lengths(run):
        yield _resized(run, functools.partial(_other_sizes, lengths=lengths))


def _resized(run: Run, resize: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    def one(leaf: Any) -> Any:
        return resize(leaf) if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf

    with torch.device("cpu"):
        args, kwargs = tree_map(one, (run.args, dict(run.kwargs)))
    return Run(args, kwargs, run.entry)


def _tensors(run: Run) -> list[torch.Tensor]:
    leaves = tree_flatten((run.args, dict(run.kwargs)))[0]
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim()]


def _tokens(run: Run) -> list[torch.Tensor]:
    named = [run.kwargs[name] for name in _TOKENS if isinstance(run.kwargs.get(name), torch.Tensor)]
    return named or [t for t in _tensors(run)[:1] if t.dim() == 2]


def _lengths(run: Run) -> list[Collection[int]]:
    """The sizes that are lengths: those of the tokens, else the second or the third dimension of the first tensor."""
    tokens = [int(t.shape[1]) for t in _tokens(run) if t.dim() > 1]
    if tokens:
        return [set(tokens)]
    first = next(iter(_tensors(run)), None)
    if first is None or first.dim() != 3:
        return [()]
    return [{size} for size in dict.fromkeys(map(int, first.shape[1:])) if size > 1]


def _other_sizes(tensor: torch.Tensor, lengths: Collection[int]) -> torch.Tensor:
    """Images larger; of dimensions with a length the last two thirds, or twice the length where that is less than 6."""
    is_image = tensor.is_floating_point() and tensor.dim() >= 4
    for dimension in range(1, tensor.dim()):
        size = int(tensor.shape[dimension])
        if is_image and dimension >= tensor.dim() - 2:
            tensor = tensor.repeat_interleave(_SIDES, dimension)
        elif not is_image and size in lengths:
            if size < 6:
                tensor = torch.cat((tensor, tensor), dimension)
            else:
                tensor = tensor.narrow(dimension, size - 2 * size // 3, 2 * size // 3)
    return tensor
