"""Rows that remember where they came from, so that every error can name file and line; and predictions for them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

Row = dict[str, Any]

# what pandas calls the column of its index where it has no name: in CSV, in CSV that was read again, in Parquet
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def is_index(column: str) -> bool:
    """Whether a column is an index that pandas has written with the data."""
    return _INDEX.fullmatch(column) is not None


class Place(NamedTuple):
    """Where a row came from.

    Attributes:
        file: A path, the name of a data set, or words for rows that are in memory.
        line: The line of the file, or the number of the row where a file has no lines; both begin at 1.
    """

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Rows(Sequence[Row]):
    """An immutable sequence of rows, each with its place.

    Args:
        rows: Mappings from columns to values.
        places: One for each row; by default the rows are numbered.
        source: The name that goes with these numbers.
    """

    __slots__ = ("_places", "_rows")

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        places: Iterable[Place] | None = None,
        *,
        source: str = "rows in memory",
    ) -> None:
        self._rows = tuple(dict(row) for row in rows)
        counted = (Place(source, n) for n in range(1, len(self._rows) + 1))
        self._places = tuple(counted if places is None else places)
        if len(self._places) != len(self._rows):
            raise ValueError(f"{len(self._rows)} rows and {len(self._places)} places")

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[Row, Place]]) -> Rows:
        """Rows from pairs of a row and its place, as `placed` gives them."""
        found = list(pairs)
        return cls([row for row, _ in found], [place for _, place in found])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return Rows(self._rows[index], self._places[index])
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        first = f" from {self._places[0]}" if self else ""
        return f"<{len(self)} rows{first}: {', '.join(self.columns)}>"

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that some row has, in the order in which they occur."""
        return tuple(dict.fromkeys(column for row in self._rows for column in row))

    def place(self, index: int) -> Place:
        """Where a row came from."""
        return self._places[index]

    def placed(self) -> Iterator[tuple[Row, Place]]:
        """Each row with its place."""
        return zip(self._rows, self._places, strict=True)

    def take(self, indices: Iterable[int]) -> Rows:
        """Some of the rows, in the order of the indices."""
        return Rows.from_pairs((self._rows[i], self._places[i]) for i in indices)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a task predicts for one row.

    Attributes:
        value: A label's name, a list of names, a number, a list of tags, a text, or the number of a choice.
        probabilities: The probability of each label, where the kind has labels.
        extra: More that the kind gives; see the kinds.
    """

    value: Any
    probabilities: dict[str, float] | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON values, without the parts that are missing."""
        found: dict[str, Any] = {"value": list(self.value) if isinstance(self.value, tuple) else self.value}
        if self.probabilities is not None:
            found["probabilities"] = dict(self.probabilities)
        if self.extra:
            found["extra"] = dict(self.extra)
        return found
