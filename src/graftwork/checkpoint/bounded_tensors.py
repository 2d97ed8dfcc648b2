"""A limit on the tensors that are made while a file is read, whatever sizes its manifest has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from graftwork.checkpoint.json_files import MANIFEST
from graftwork.errors import CheckpointError

_TIMES, _ALWAYS = 8, 2**22  # values that may be made for each value in the file, and in addition


class BoundedTensors(TorchDispatchMode):
    """A mode that counts the values of new tensors, and refuses many more than the file has.

    Raises:
        CheckpointError: Before a tensor is allocated that exceeds several times the number of values in the file.
    """

    def __init__(self, where: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._where = where
        self._values = sum(t.numel() for t in tensors.values())
        self._left = _TIMES * self._values + _ALWAYS

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # with a device and no tensor among the arguments, the call makes a new tensor
        if "device" in kwargs and not any(isinstance(arg, Tensor) for arg in (*args, *kwargs.values())):
            made = func(*args, **{**kwargs, "device": torch.device("meta"), "pin_memory": False})
            self._left -= made.numel()
            if self._left < 0:
                raise CheckpointError(
                    f"{self._where} is damaged: by the sizes in its {MANIFEST} it has many more weights than the "
                    f"{self._values:,d} in its tensors; copy the folder again, or save it anew"
                )
        return func(*args, **kwargs)
