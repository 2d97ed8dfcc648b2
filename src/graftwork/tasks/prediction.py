"""What a task says of one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a task says of one row.

    Attributes:
        value: A label's name, a list of names, a number, a list of tags, a text, or the number of a choice.
        probabilities: Of each label, where the kind has them.
        extra: What else the kind can tell; see the kinds.
    """

    value: Any
    probabilities: dict[str, float] | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; what there is not is left out."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        told: dict[str, Any] = {"value": value}
        if self.probabilities is not None:
            told["probabilities"] = dict(self.probabilities)
        return {**told, **({"extra": dict(self.extra)} if self.extra else {})}
