"""Words of a vocabulary: what was predicted is pairs of a token and the log-probability of the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftwork.tasks.scoring.registry import metric

TOKENS = "tokens"


@metric("token_accuracy", TOKENS)
def token_accuracy(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The share of tokens that are right, over all rows together."""
    said = [int(token) for row in predicted for token, _ in row]
    right = [int(token) for row in gold for token in row]
    return sum(p == g for p, g in zip(said, right, strict=True)) / max(len(right), 1)


@metric("log_likelihood", TOKENS)
def log_likelihood(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean log-probability of the right token: the loss with its sign turned, minus the logarithm of the perplexity."""
    found = [float(chance) for row in predicted for _, chance in row]
    return sum(found) / max(len(found), 1)
