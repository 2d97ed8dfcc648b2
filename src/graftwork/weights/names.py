"""Names of adapters: what may be one, and how it is written inside a module's tree."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Iterable

from graftwork.errors import ConfigError, NameTakenError, UnknownNameError
from graftwork.methods.layers.members import SEPARATOR
from graftwork.options import hint

RESERVED = "graftwork"
_UNWRITTEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogates, ends of lines and paragraphs


def check_new(name: str, taken: Container[str], what: str) -> None:
    """Refuse a name that is empty, no text, or taken.

    Raises:
        ConfigError: If it cannot be a name.
        NameTakenError: If it is taken.
    """
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise ConfigError(
            f"{name!r} cannot be the name of {what}; give a text that is not empty, without spaces around it"
        )
    if any(unicodedata.category(c) in _UNWRITTEN for c in name):
        raise ConfigError(f"{name!r} cannot be the name of {what}: it has control characters; use plain text")
    if name in taken:
        raise NameTakenError(f"{what} {name!r} is there already; choose another name, or remove({name!r}) first")


def unknown(name: str, known: Iterable[str], what: str, way_out: str = "") -> UnknownNameError:
    """The error for a name that is not there, with the nearest ones that are, and a way out."""
    have = list(known)
    there = f"there are: {', '.join(map(repr, have))}" if have else "there are none yet"
    return UnknownNameError(
        f"no {what} is called {name!r}; {hint(name, have) or there}{'; ' if way_out else ''}{way_out}"
    )


def parted(name: str) -> tuple[str, str]:
    """The adapter's name and the member's in ``"hyper:mnli"``; the first is empty where there is no member in it."""
    adapter, _, member = name.rpartition(SEPARATOR)
    return adapter, member


def full_name(adapter: str, member: str) -> str:
    """How compositions call a member."""
    return f"{adapter}{SEPARATOR}{member}"


def encode(name: str) -> str:
    """The name as a module's name: a dot would split it, and words such as "train" are methods of a ModuleDict."""
    return "n_" + name.replace("%", "%25").replace(".", "%2E")


def decode(key: str) -> str:
    """The inverse of `encode`."""
    return key.removeprefix("n_").replace("%2E", ".").replace("%25", "%")
