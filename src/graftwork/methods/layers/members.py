"""Adapters with members: one adapter that serves several tasks, each with a few weights that are its alone.

In a composition a member is called by its adapter's name and its own, ``"hyper:mnli"``. What all members have in common,
and what each has alone, is one module, made by `AdapterConfig.shared`; a module at a site gives what it computes for one
member by `AdapterModule.member`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from graftwork.errors import ConfigError

SEPARATOR = ":"


class MemberWeights(nn.Module):
    """What the sites of an adapter with members share; subclasses say what is a member's alone.

    Attributes:
        names: The members, in the configuration's order.
        own: For each of them, in that order, the weights that are its alone.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.own = nn.ModuleList(self.new() for _ in self.names)

    def new(self) -> nn.Module:
        """The own weights of a new member, at their start."""
        raise NotImplementedError

    def of(self, name: str) -> nn.Module:
        """The weights that are one member's alone."""
        return self.own[self.names.index(name)]

    def add(self, name: str, like: str | None = None) -> nn.Module:
        """Add a member, its weights at their start or those of another; on that one's device, in its dtype."""
        first = self.own[0]
        made = self.new() if like is None else copy.deepcopy(self.of(like))
        for mine, other in zip(made.parameters(), first.parameters(), strict=True):
            mine.data = mine.data.to(other.device, other.dtype)
        self.own.append(made.train(self.training))
        self.names.append(name)
        return made

    def drop(self, name: str) -> None:
        """Take a member out."""
        place = self.names.index(name)
        del self.own[place]
        del self.names[place]


def member_names(config: object, field: str) -> tuple[str, ...]:
    """The members that a configuration names.

    Raises:
        ConfigError: If there are none, one is there twice, or one cannot be a name.
    """
    given: Any = getattr(config, field)
    where = f"{type(config).__name__}: {field}"
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, (tuple, list)) or not names:
        raise ConfigError(f"{where} is {given!r}; name one or more, such as ('mnli', 'qqp')")
    for name in names:
        check_member(where, name)
    if len(set(names)) < len(names):
        raise ConfigError(f"{where} is {given!r}; name each once")
    return tuple(names)


def check_member(where: str, name: object) -> None:
    """Refuse what cannot be a member's name.

    Raises:
        ConfigError: If it is empty, no text, or has what parts it from the adapter's name.
    """
    plain = isinstance(name, str) and name.strip() == name != "" and all(ord(c) >= 32 for c in name)
    if not plain or SEPARATOR in str(name):
        raise ConfigError(
            f"{where}: {name!r} cannot be a member's name; give a text that is not empty, without {SEPARATOR!r} (it parts a "
            "member from its adapter) and without spaces around it"
        )
