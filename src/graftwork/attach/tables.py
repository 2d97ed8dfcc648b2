"""Tables by name that one thread changes while others read them, at a cost that does not grow with what they hold."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


class Table(Mapping[str, T], Generic[T]):
    """Values by name. Whoever goes through it sees what it held when that began: a list is made of it in one step."""

    def __init__(self) -> None:
        self._held: dict[str, T] = {}

    def put(self, name: str, value: T) -> None:
        """Add a value, or replace the one of that name."""
        self._held[name] = value

    def drop(self, name: str) -> T | None:
        """Remove and return the value of that name, if there is one."""
        return self._held.pop(name, None)

    def __getitem__(self, name: str) -> T:
        return self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._held))

    def items(self) -> list[tuple[str, T]]:  # type: ignore[override]  # a list in place of a view
        return list(self._held.items())

    def values(self) -> list[T]:  # type: ignore[override]  # a list in place of a view
        return list(self._held.values())


class CountedTable(Table[H]):
    """A table that knows which different values it holds."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: collections.Counter[H] = collections.Counter()

    def put(self, name: str, value: H) -> None:
        before = self.get(name)
        super().put(name, value)  # one step: who reads meanwhile finds the former value or this one
        self._counts[value] += 1
        self._uncount(before)

    def drop(self, name: str) -> H | None:
        found = super().drop(name)
        self._uncount(found)
        return found

    def _uncount(self, value: H | None) -> None:
        if value is not None:
            self._counts[value] -= 1
            if not self._counts[value]:
                del self._counts[value]

    def different(self) -> list[H]:
        """Each value once."""
        return list(self._counts)
