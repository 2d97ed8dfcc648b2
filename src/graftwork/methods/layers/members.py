"""Adapters with members: one adapter that serves several tasks, each with a few weights of its own.

In a composition a member's name is its adapter's and its own, ``"hyper:mnli"``. `AdapterConfig.shared` makes one module with
the weights that all members share and those of each; `AdapterModule.member` returns what a site's module computes for one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from graftwork.errors import ConfigError

SEPARATOR = ":"


class MemberWeights(nn.Module):
    """What the sites of an adapter with members share; subclasses define the weights of one member.

    Attributes:
        names: The members, in the configuration's order.
        own: The weights of each member, in that order.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = list(names)
        self.own = nn.ModuleList(self.new() for _ in self.names)

    def new(self) -> nn.Module:
        """Return the weights of a new member."""
        raise NotImplementedError

    def of(self, name: str) -> nn.Module:
        """Return the weights of one member."""
        return self.own[self.names.index(name)]

    def add(self, name: str, like: str | None = None) -> nn.Module:
        """Add a member with new weights or those of another, on the other members' device and in their dtype."""
        first = self.own[0]
        made = self.new() if like is None else copy.deepcopy(self.of(like))
        for weight, other in zip(made.parameters(), first.parameters(), strict=True):
            weight.data = weight.data.to(other.device, other.dtype)
        self.own.append(made.train(self.training))
        self.names.append(name)
        return made

    def drop(self, name: str) -> None:
        """Remove a member."""
        place = self.names.index(name)
        del self.own[place]
        del self.names[place]


def member_names(config: object, field: str) -> tuple[str, ...]:
    """The members that a configuration names.

    Raises:
        ConfigError: If there are none, one is named twice, or one cannot be a name.
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
        ConfigError: If it is empty, no text, or contains the separator.
    """
    plain = isinstance(name, str) and name.strip() == name != "" and all(ord(c) >= 32 for c in name)
    if not plain or SEPARATOR in str(name):
        raise ConfigError(
            f"{where}: {name!r} cannot be a member's name; give a text that is not empty, without {SEPARATOR!r} (it separates "
            "the adapter's name from the member's) and without spaces around it"
        )
