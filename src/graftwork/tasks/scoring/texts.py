"""Texts that were written: sacrebleu and rouge_score. The right ones are a list of texts, one or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graftwork.options import needed
from graftwork.tasks.scoring.registry import metric

TEXT = "texts"


@metric("bleu", TEXT, needs="sacrebleu")
def bleu(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """BLEU of the corpus, 0 to 100, tokenised as sacrebleu does by default (13a)."""
    return needed("sacrebleu", "the metric bleu").corpus_bleu(list(predicted), _streams(gold)).score


@metric("chrf", TEXT, needs="sacrebleu")
def chrf(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The F score of characters' n-grams, 0 to 100."""
    return needed("sacrebleu", "the metric chrf").corpus_chrf(list(predicted), _streams(gold)).score


@metric("rouge1", TEXT, by_row=True, needs="rouge_score.rouge_scorer")
def rouge1(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean F1 of words, 0 to 1; only words in the Latin alphabet count."""
    return _rouge("rouge1", predicted, gold)


@metric("rouge2", TEXT, by_row=True, needs="rouge_score.rouge_scorer")
def rouge2(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean F1 of pairs of words, 0 to 1."""
    return _rouge("rouge2", predicted, gold)


@metric("rougeL", TEXT, by_row=True, needs="rouge_score.rouge_scorer")
def rouge_l(predicted: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> float:
    """The mean F1 of the longest common subsequence of words, 0 to 1."""
    return _rouge("rougeL", predicted, gold)


def _rouge(name: str, predicted: Sequence[Any], gold: Sequence[Any]) -> float:
    scorer = needed("rouge_score.rouge_scorer", f"the metric {name}").RougeScorer([name])
    rows = zip(predicted, gold, strict=True)
    return sum(max(scorer.score(one, p)[name].fmeasure for one in g) for p, g in rows) / len(gold)


def _streams(gold: Sequence[Any]) -> list[list[str | None]]:
    """The first right text of each row, the second of each, and so on; ``None`` where a row has no more."""
    most = max(map(len, gold))
    return [[row[n] if n < len(row) else None for row in gold] for n in range(most)]
