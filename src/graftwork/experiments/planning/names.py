"""What a name in a recipe may be: it becomes that of an adapter, of a folder and of files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

LONGEST = 100  # bytes: files have more around it, and no name of a file may have more than 255


def check_name(name: str, what: str) -> None:
    """Refuse a name that could not be saved, or not on every system.

    Args:
        name: The name.
        what: What it is of, for the message.

    Raises:
        ValueError: If it is empty, has spaces around it, or characters that no folder's name may have, or is too long.
    """
    strange = next((c for c in name if c in "/\\:" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    if strange is not None:
        raise ValueError(f"{what} {name!r:.200}: its name is a folder's, which has no {strange!r}; leave it out")
    if not name or name != name.strip() or name[0] == "." or name[-1] == ".":
        raise ValueError(
            f"{what} {name!r:.200}: its name is a folder's, so not empty, without spaces around it, and no dot at its ends"
        )
    if len(name.encode()) > LONGEST:
        raise ValueError(f"{what} {name!r:.60}...: it has {len(name.encode())} bytes; give one of {LONGEST} or fewer")


def check_apart(name: str, kinds: Collection[str], tasks: Collection[str]) -> None:
    """Refuse the name of a task that a run gives to something that it makes for another task: a fusion, a copy.

    Args:
        name: The name.
        kinds: All kinds of trainings.
        tasks: All tasks.

    Raises:
        ValueError: If it is such a name.
    """
    copy = re.fullmatch(r"(.+)@-?\d+", name)
    if (copy and copy[1] in tasks) or any(name == f"{kind}-{task}" for kind in kinds for task in tasks):
        raise ValueError(f"the task {name!r}: what is made for another task is called so; give it another name")
