"""What a function does beside what it returns: imports, the network, processes, files elsewhere, memory, time."""

from __future__ import annotations

import contextlib
import functools
import os
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
_CHANGING = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HERE = Path(__file__).parents[2]
_LIBRARIES = tuple(
    os.path.realpath(path)
    for path in (sys.prefix, sys.base_prefix, _HERE / "src", _HERE / "tests", "/usr", "/proc", "/sys", "/dev")
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

    def run(self, function: Callable[[], Any], folder: Path, file_bytes: int | None = None) -> Any:
        """What a function returns, or the exception that it raises.

        Args:
            function: The function.
            folder: The folder that it reads: other files it may not read, but for those of Python, and not write.
            file_bytes: The size of what it reads, by default that of the folder's files.

        Raises:
            Strange: If it imported a package, reached for the network, a process or another file, took too long, or more memory
                than ten times the size and 64 MiB.
        """
        if file_bytes is None:
            file_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
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
            if kind in ("read", "write"):
                if _is_elsewhere(name, folder, kind):
                    raise Strange(what)
            elif kind != "import" or name.partition(".")[0] not in self.known:
                raise Strange(what)
        if grown > 10 * file_bytes + 64 * 2**20:
            raise Strange(f"{grown:,d} bytes of memory for a file of {file_bytes:,d}")
        return found


def _is_elsewhere(path: str, folder: Path, kind: str) -> bool:
    """Whether a path is outside a folder, and if it is only read outside of what Python and the system have."""
    whole = os.path.realpath(path)
    allowed = (os.path.realpath(folder), *(_LIBRARIES if kind == "read" else ()), "/dev/null")
    return not any(whole == one or whole.startswith(f"{one}{os.sep}") for one in allowed)


@functools.cache
def _listen() -> None:
    """Hear of what Python does from now on; once, for it cannot be taken back."""
    sys.addaudithook(_heard)


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if _seen is not None:
        if event == "import":
            _seen.append(f"import {args[0]}")
        elif event in _CHANGING or event == "open":
            writes = event != "open" or (isinstance(args[2], int) and args[2] & _WRITES)
            # a folder that is made for a file gives its path alone, a rename two of them
            paths = args[:2] if event in ("os.rename", "os.link", "os.symlink") else args[:1]
            for path in paths:
                # a name alone is relative to an open folder: `shutil.rmtree` takes away what is in it so
                if isinstance(path, (str, bytes, os.PathLike)) and os.sep in os.fsdecode(path):
                    _seen.append(f"{'write' if writes else 'read'} {os.fsdecode(path)}")
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
