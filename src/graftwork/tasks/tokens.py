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
    """How many tokens there may be: the task's own number, the recipe's, the tokenizer's; ``None`` for any."""
    found = spec.max_length or max_length
    own = getattr(tokenizer, "model_max_length", None) or _ENDLESS
    return found if found is not None else (int(own) if own < _ENDLESS else None)


def encode(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: Any, limit: int | None, rows: Rows
) -> list[dict[str, Any]]:
    """Tokens of each text, or of each pair of texts, cut off at a limit.

    Args:
        texts: One for each row.
        pairs: The second texts, if there are any.
        tokenizer: A tokenizer of transformers.
        limit: How many tokens there may be.
        rows: Where the texts come from, for complaints.

    Raises:
        TaskError: If a text has no tokens at all.
    """
    if not texts:
        return []
    cut = {"truncation": True, "max_length": limit} if limit is not None else {}
    tokens = tokenizer(list(texts), None if pairs is None else list(pairs), **cut)
    features = [{key: tokens[key][n] for key in tokens} for n in range(len(texts))]
    for n, feature in enumerate(features):
        if not feature["input_ids"]:
            raise TaskError(f"{rows.place(n)}: {texts[n]!r} has no tokens at all; take the row out")
    return features


def encode_whole(texts: Sequence[str], tokenizer: Any, limit: int | None, rows: Rows) -> list[dict[str, Any]]:
    """Tokens of each text, in as many pieces as the limit makes of it, so that none is lost.

    A tokenizer that is not fast cannot say what it cuts off; it is lost then.

    Args:
        texts: One for each row.
        tokenizer: A tokenizer of transformers.
        limit: How many tokens a piece may have.
        rows: Where the texts come from, for complaints.

    Raises:
        TaskError: If a text has no tokens at all.
    """
    if not texts or limit is None or not getattr(tokenizer, "is_fast", False):
        return encode(texts, None, tokenizer, limit, rows)
    tokens = tokenizer(list(texts), truncation=True, max_length=limit, return_overflowing_tokens=True)
    whose = tokens.pop("overflow_to_sample_mapping")
    pieces = [{key: tokens[key][n] for key in tokens} for n in range(len(whose))]
    for row, piece in zip(whose, pieces, strict=True):
        if not piece["input_ids"]:
            raise TaskError(f"{rows.place(row)}: {texts[row]!r} has no tokens at all; take the row out")
    return pieces


def fast(tokenizer: Any, what: str) -> None:
    """Refuse a tokenizer that cannot say which token comes from where.

    Raises:
        TaskError: If so.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise TaskError(
            f"{what} has to know which token comes from where in the text, and {type(tokenizer).__name__} cannot say; "
            "load the tokenizer with AutoTokenizer.from_pretrained(..., use_fast=True)"
        )


def two_texts(cells: Cells) -> tuple[str, str | None]:
    """A row's text, and its second text where it has one."""
    return cells.text("text"), None if cells.get("pair") is None else cells.text("pair")


def same_pairs(rows: Rows, texts: Sequence[tuple[str, str | None]], column: str) -> list[str] | None:
    """The second texts, or ``None`` where no row has one.

    Raises:
        TaskError: If some rows have one and others do not.
    """
    pairs = [pair for _, pair in texts if pair is not None]
    if pairs and len(pairs) < len(texts):
        without = next(n for n, (_, pair) in enumerate(texts) if pair is None)
        raise TaskError(
            f"{rows.place(without)}: no second text in {column!r}, and other rows have one; give it to every row or to none"
        )
    return pairs or None
