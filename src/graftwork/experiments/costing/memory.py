"""The highest memory that a process has had: of the accelerator where there is one, else its own."""

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch


def forget_highest() -> None:
    """Let the highest so far be what is in use now, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def highest_memory() -> int:
    """The highest memory so far, in bytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):  # on Linux ru_maxrss will not do: a new process takes over that of its parent
        if found := re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text()):
            return 1024 * int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
