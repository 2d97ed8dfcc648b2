"""Whether the process that wrote something still runs, as far as this machine can know."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from graftwork.checkpoint.folders import runs


@functools.cache
def _machine() -> str:
    """The name of this machine until it is started again, and of the container; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def this_process() -> dict[str, str | int]:
    """This process as ``machine``, ``process`` and ``started``, which no other process ever has."""
    return {"machine": _machine(), "process": os.getpid(), "started": _started(os.getpid()) or ""}


def _started(process: int) -> str | None:
    """When a process of this machine was started; empty for one that has ended, ``None`` where that cannot be known."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if runs(process) else ""
    return "" if state in "ZX" else fields[18]


def has_ended(machine: str, process: int, started: str) -> bool:
    """Whether a process is known to have ended: it was one of this machine."""
    if not machine or machine != _machine():
        return False
    now = _started(process)
    return now is not None and now != started
