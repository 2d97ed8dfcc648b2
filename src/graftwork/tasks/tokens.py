"""Texts as tokens: how long they may be, and that there are some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.cells import Cells
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import TaskSpec

# tokenizers that do not know a model's length say a number like 10^30
_ENDLESS = 1_000_000


def longest(spec: TaskSpec, max_length: int | None, tokenizer: Any) -> int | None:
    """The most tokens: the number of the task, of the recipe or of the tokenizer; ``None`` for any."""
    found = spec.max_length or max_length
    own = getattr(tokenizer, "model_max_length", None) or _ENDLESS
    return found if found is not None else (int(own) if own < _ENDLESS else None)


def truncation(limit: int | None) -> dict[str, Any]:
    """The arguments of a tokenizer that cut a text off at a limit."""
    return {} if limit is None else {"truncation": True, "max_length": limit}


def encode(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    tokenizer: Any,
    limit: int | None,
    rows: Rows,
    *,
    pieces: bool = False,
) -> list[dict[str, Any]]:
    """Tokens of each text of the rows, or of each pair of texts, cut off at a limit; a text must have some.

    With ``pieces`` the rest of a text becomes further features, if the tokenizer is fast; otherwise it is lost.
    """
    if not texts:
        return []
    options = truncation(limit)
    pieces = pieces and limit is not None and getattr(tokenizer, "is_fast", False)
    if pieces:
        options["return_overflowing_tokens"] = True
    tokens = tokenizer(list(texts), None if pairs is None else list(pairs), **options)
    numbers = tokens.pop("overflow_to_sample_mapping") if pieces else range(len(texts))
    features = [{key: tokens[key][n] for key in tokens} for n in range(len(numbers))]
    for number, feature in zip(numbers, features, strict=True):
        if not feature["input_ids"]:
            raise TaskError(f"{rows.place(number)}: {texts[number]!r} has no tokens at all; take the row out")
    return features


def require_fast(tokenizer: Any, what: str) -> None:
    """Refuse a tokenizer that cannot say which token comes from where."""
    if not getattr(tokenizer, "is_fast", False):
        raise TaskError(
            f"{what} has to know which token comes from where in the text, and {type(tokenizer).__name__} cannot say; "
            "load the tokenizer with AutoTokenizer.from_pretrained(..., use_fast=True)"
        )


def two_texts(cells: Cells) -> tuple[str, str | None]:
    """A row's text, and its second text where it has one."""
    return cells.text("text"), None if cells.get("pair") is None else cells.text("pair")
