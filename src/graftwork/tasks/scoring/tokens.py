"""Tags of words, and tokens of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftwork.options import needed
from graftwork.tasks.scoring.registry import metric

TAGS = "tags"
TOKENS = "tokens"  # as predicted: pairs of a token and the log-probability of the right one


@metric("entity_f1", TAGS, needs="seqeval.metrics")
def entity_f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """Micro F1 of whole entities, as conlleval counts them: right are those with the same words and the same type."""
    seqeval = needed("seqeval.metrics", "the metric entity_f1")
    return seqeval.f1_score([list(tags) for tags in gold], [list(tags) for tags in predicted], zero_division=0)


@metric("tag_accuracy", TAGS)
def tag_accuracy(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The share of words whose tag is right."""
    right = sum(p == g for one, other in zip(predicted, gold, strict=True) for p, g in zip(one, other, strict=True))
    return right / max(sum(map(len, gold)), 1)


@metric("token_accuracy", TOKENS)
def token_accuracy(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The share of tokens that are right, over all rows together."""
    found = [int(token) for row in predicted for token, _ in row]
    right = [int(token) for row in gold for token in row]
    return sum(p == g for p, g in zip(found, right, strict=True)) / max(len(right), 1)


@metric("log_likelihood", TOKENS)
def log_likelihood(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean log-probability of the right token: the negative loss, which is minus the logarithm of the perplexity."""
    found = [float(chance) for row in predicted for _, chance in row]
    return sum(found) / max(len(found), 1)
