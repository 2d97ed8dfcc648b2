"""Names of adapters: which are allowed, and how they are written as names of modules."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable

from graftwork.errors import ConfigError, NameTakenError, UnknownNameError
from graftwork.methods.layers.members import SEPARATOR
from graftwork.options import hint

RESERVED = "graftwork"
_NOT_PRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogates, ends of lines and paragraphs


def check_new(name: str, taken: Container[str], what: str) -> None:
    """Refuse a name that is no plain text, is empty, or is taken."""
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise ConfigError(
            f"{name!r} cannot be the name of {what}; give a text that is not empty, without spaces around it"
        )
    if any(unicodedata.category(c) in _NOT_PRINTABLE for c in name):
        raise ConfigError(f"{name!r} cannot be the name of {what}: it has control characters; use plain text")
    if name in taken:
        raise NameTakenError(f"{what} {name!r} is there already; choose another name, or remove({name!r}) first")


def unknown(name: str, known: Iterable[str], what: str, way_out: str = "") -> UnknownNameError:
    """The error for an unknown name, with the nearest known one or all of them, and a way out."""
    names = list(known)
    near = hint(name, names) or (f"there are: {', '.join(map(repr, names))}" if names else "there are none yet")
    return UnknownNameError(f"no {what} is called {name!r}; {near}{'; ' if way_out else ''}{way_out}")


def parted(name: str) -> tuple[str, str]:
    """The adapter's name and the member's in ``"hyper:mnli"``; the first is empty in a name without a member."""
    adapter, _, member = name.rpartition(SEPARATOR)
    return adapter, member


def full_name(adapter: str, member: str) -> str:
    """The name of a member in compositions: ``"hyper:mnli"``."""
    return f"{adapter}{SEPARATOR}{member}"


def encode(name: str) -> str:
    """The name as a key of a ModuleDict, which takes no dots and no names of its methods, such as "train"."""
    return "n_" + name.replace("%", "%25").replace(".", "%2E")
