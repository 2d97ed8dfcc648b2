"""The fastest precision that a machine computes well."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16", "float16"]

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_WITH_TENSOR_CORES = (7, 0)  # the first GPUs that are faster in float16
_FAST_ON_CPU = {"amx_bf16", "avx512_bf16"}


def best_precision(device: torch.device) -> Precision:
    """The precision for a device: bfloat16 where it has instructions for it, else float16 on a GPU that is fast with it.

    Example:
        >>> best_precision(torch.device("cpu")) in ("bfloat16", "float32")
        True
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if torch.version.hip is not None or capability >= (8, 0):  # before, bfloat16 is emulated
            return "bfloat16"
        return "float16" if capability >= _WITH_TENSOR_CORES else "float32"
    return "bfloat16" if device.type == "cpu" and _FAST_ON_CPU & _cpu_flags() else "float32"


@functools.cache
def _cpu_flags(file: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instructions of this machine's processor, where the system tells; else none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
