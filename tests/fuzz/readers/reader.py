"""What a reader of files is to the fuzzer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Reader:
    """A function that reads a folder.

    Attributes:
        name: Its name.
        make: Writes what it reads into a folder.
        read: Reads that, and returns what can be compared.
        exact: Whether everything that the folder says is under a hash: damage is refused, or changes nothing.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    exact: bool = False
