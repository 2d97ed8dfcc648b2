"""What a fusion looks at in a few rows: their tokens, each in the colour of the adapter with most of its attention."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from graftwork.report.curves import OF_NAMES
from graftwork.report.formatting import printable
from graftwork.report.table import Table

_EVEN = 0.15  # of the colour's strength, where all adapters have the same attention


@dataclasses.dataclass(frozen=True)
class Token:
    """A token: its text, the adapter with most of its attention, how strong the colour is (0 to 1), and the weights in words."""

    text: str
    adapter: int
    strength: float
    weights: str


@dataclasses.dataclass(frozen=True)
class TokenAttention:
    """The tokens of a fusion's example rows.

    Attributes:
        adapters: The names of the adapters, each with its colour.
        rows: The tokens of each row.
        table: The numbers of the first row.
    """

    adapters: list[tuple[str, str]]
    rows: list[list[Token]]
    table: Table

    caption = (
        "The first dev rows, token by token, the mean over the sites. The colour is the adapter that has most of a token's "
        "attention, the stronger the further it is from an even share."
    )


def token_attention(results: Mapping[str, Any], target: str, kind: str) -> TokenAttention | None:
    """The examples of a target's fusion of a kind, of the first seed that has some; ``None`` where no row was kept."""
    for unit in results["units"]:
        seen = unit.get("attention") or {}
        if (unit["kind"], unit["task"]) == (kind, target) and seen.get("examples"):
            return _of(seen["adapters"], seen["examples"])
    return None


def _of(adapters: Sequence[str], examples: Sequence[Mapping[str, Any]]) -> TokenAttention:
    names = [*map(printable, adapters)]
    colours = [OF_NAMES[n % len(OF_NAMES)] for n in range(len(names))]
    rows = [
        [_token(text, weights, names) for text, weights in zip(one["tokens"], one["weights"], strict=True)]
        for one in examples
    ]
    first = zip(examples[0]["tokens"], examples[0]["weights"], strict=True)
    lines = [[text, *(f"{weight:.2f}" for weight in weights)] for text, weights in first]
    return TokenAttention(
        [*zip(names, colours, strict=True)], rows, Table("The first row", ["token", *names], lines, [])
    )


def _token(text: str, weights: Sequence[float], names: Sequence[str]) -> Token:
    best, even = max(range(len(weights)), key=lambda n: weights[n]), 1 / len(weights)
    above = (weights[best] - even) / (1 - even) if even < 1 else 0.0
    shown = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
    return Token(printable(text).strip() or "␣", best, round(min(_EVEN + 1.6 * max(above, 0.0), 1.0), 2), shown)
