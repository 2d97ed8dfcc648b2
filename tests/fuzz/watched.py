"""What a function does beside what it gives: imports, the network, processes, memory, time."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORBIDDEN = (
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
)
_seen: list[str] | None = None
SECONDS = 20


class Strange(Exception):
    """Something happened that reading a file must not do."""


class Watch:
    """Runs functions and says what each did that it must not."""

    def __init__(self) -> None:
        _listen()
        self.known = {name.partition(".")[0] for name in sys.modules}

    def run(self, function: Callable[[], Any], file_bytes: int) -> tuple[Any, int]:
        """What it gives or the exception that it raises, and by how many bytes memory grew meanwhile at most.

        Raises:
            Strange: If it imported a package, reached for the network or a process, took too long or too much memory.
        """
        global _seen
        _reset_peak()
        before, _seen = _memory("VmRSS"), []
        old = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        try:
            found: Any = function()
        except Strange:
            raise
        except BaseException as error:
            found = error
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)
            seen, _seen = _seen, None
        grown = _memory("VmHWM") - before
        for what in seen:
            kind, _, name = what.partition(" ")
            if kind != "import" or name.partition(".")[0] not in self.known:
                raise Strange(what)
        if grown > 10 * file_bytes + 64 * 2**20:
            raise Strange(f"{grown:,d} bytes of memory for a file of {file_bytes:,d}")
        return found, grown


@functools.cache
def _listen() -> None:
    """Hear of what Python does from now on; once, for it cannot be taken back."""
    sys.addaudithook(_heard)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if _seen is not None:
        if event == "import":
            _seen.append(f"import {args[0]}")
        elif event in _FORBIDDEN:
            _seen.append(f"{event} {args!r:.200}")


def _too_long(*_: object) -> None:
    raise Strange(f"not ready after {SECONDS} seconds")


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _memory(kind: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))
