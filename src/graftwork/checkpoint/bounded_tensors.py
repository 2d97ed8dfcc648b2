"""A limit on what is made while a file is read: the sizes in its manifest may be any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from graftwork.checkpoint.folders import MANIFEST
from graftwork.errors import CheckpointError

_TIMES, _ALWAYS = 8, 2**22  # values that a method may make and throw away, for each that is kept and at all


class BoundedTensors(TorchDispatchMode):
    """A mode in which tensors that a file asks for are counted, and refused where the file has no weights for them.

    Args:
        where: The name of the file in messages.
        tensors: Its tensors.

    Raises:
        CheckpointError: Before the tensors that are made become several times as many values as the file has.
    """

    def __init__(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._where = where
        self._values = sum(t.numel() for t in tensors.values())
        self._left = _TIMES * self._values + _ALWAYS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # of numbers alone a tensor is made
        if "device" in kwargs and not any(isinstance(arg, Tensor) for arg in (*args, *kwargs.values())):
            made = func(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": False})
            self._left -= made.numel()
            if self._left < 0:
                raise CheckpointError(
                    f"{self._where} is damaged: by the sizes in its {MANIFEST} it has many more weights than the "
                    f"{self._values:,d} that are in it"
                )
        return func(*args, **kwargs)
