"""Fields of a JSON object, strictly typed: each asked for once, none left over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.errors import CheckpointError


class Reader:
    """Fields of one JSON object, each asked for once and by its type."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = data
        self.where = where
        self._taken: set[str] = set()

    def take(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """A field of one of some types.

        Raises:
            CheckpointError: If it is not there, or of another type.
        """
        if key not in self.data:
            raise CheckpointError(f"{self.where} is damaged: it lacks {key!r}")
        value = self.data[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise CheckpointError(f"{self.where} is damaged: {key!r} is {value!r:.80}")
        self._taken.add(key)
        return value

    def inner(self, key: str) -> Reader:
        """A field that is an object, to be read the same way."""
        return Reader(self.take(key, dict), f"{self.where}, {key!r},")

    def texts(self, key: str) -> list[str]:
        """A field that is a list of texts."""
        values = self.take(key, list)
        if not all(isinstance(v, str) for v in values):
            raise CheckpointError(f"{self.where} is damaged: {key!r} is {values!r:.80}")
        return values  # type: ignore[no-any-return]

    def done(self) -> None:
        """Refuse what was not asked for.

        Raises:
            CheckpointError: If a field is left over.
        """
        unknown = [key for key in self.data if key not in self._taken]
        if unknown:
            raise CheckpointError(
                f"{self.where} has unknown fields {unknown}; it was written by another version, or by hand"
            )
