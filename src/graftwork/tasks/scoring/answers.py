"""Answers and other short texts, compared as SQuAD does; the right ones are a list of texts, of which the best counts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

from graftwork.tasks.scoring.registry import metric
from graftwork.tasks.scoring.texts import TEXT

ANSWER = "answers"

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@metric("exact_match", ANSWER, TEXT, by_row=True)
def exact_match(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The share that is right, apart from case, punctuation, articles and spaces."""
    right = sum(any(normal(p) == normal(one) for one in g) for p, g in zip(predicted, gold, strict=True))
    return right / len(gold)


@metric("squad_f1", ANSWER, TEXT, by_row=True)
def squad_f1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean F1 of words, after the same normalisation."""
    return sum(max(_f1(p, one) for one in g) for p, g in zip(predicted, gold, strict=True)) / len(gold)


def normal(text: str) -> str:
    """Lower case, without punctuation and articles, one space between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _f1(predicted: str, gold: str) -> float:
    found, right = normal(predicted).split(), normal(gold).split()
    if not found or not right:  # no answer is right or wrong altogether
        return float(found == right)
    same = sum((Counter(found) & Counter(right)).values())
    return 2 * same / (len(found) + len(right))
