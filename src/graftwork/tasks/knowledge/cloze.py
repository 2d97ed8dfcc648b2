"""How well the objects of triples are known: a sentence with a blank, and the rank of the right word among others.

Each candidate replaces as many masks as it has tokens, and its score is the mean log-probability of its tokens there. Ranks
are filtered, as for link prediction: another right object is no mistake, and does not count.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.tasks.batches import pad_tokens, taken
from graftwork.tasks.knowledge.sentences import Sentences
from graftwork.tasks.knowledge.triples import Triple


@dataclasses.dataclass(frozen=True)
class Cloze:
    """A sentence with a blank.

    Attributes:
        before: The text before the blank.
        after: The text after it.
        answer: The right word.
        candidates: The words to choose from, the answer among them.
        triple: The triple that it was made of.
    """

    before: str
    after: str
    answer: str
    candidates: tuple[str, ...]
    triple: Triple


@dataclasses.dataclass(frozen=True)
class ClozeScores:
    """How well some objects are known.

    Attributes:
        count: The number of objects.
        accuracy: The share with rank 1.
        mean_reciprocal_rank: The mean of 1 / rank.
    """

    count: int
    accuracy: float
    mean_reciprocal_rank: float


def clozes(triples: Sequence[Triple], sentences: Sentences, graph: Sequence[Triple]) -> list[Cloze]:
    """A cloze for each triple, with all objects of its predicate as candidates, except other right ones.

    Args:
        triples: The triples that are asked about.
        sentences: Makes their sentences.
        graph: All triples, for the candidates.
    """
    objects: dict[str, dict[str, None]] = {}
    right: dict[tuple[str, str], set[str]] = {}
    for triple in graph:
        objects.setdefault(triple.predicate, {})[triple.object] = None
        right.setdefault((triple.subject, triple.predicate), set()).add(triple.object)
    found = []
    for triple in triples:
        others = right.get((triple.subject, triple.predicate), set())
        wrong = [name for name in objects.get(triple.predicate, ()) if name not in others and name != triple.object]
        before, after = sentences.around(triple)
        found.append(Cloze(before, after, triple.object, (triple.object, *wrong), triple))
    return found


def cloze_ranks(model: Any, questions: Sequence[Cloze], tokenizer: Any, *, batch_size: int = 64) -> list[int]:
    """The rank of the right word in each cloze, 1 for the first.

    Args:
        model: Gives ``.logits (batch, positions, vocabulary)``: a masked language model, or an attached one whose active
            adapters are asked.
        questions: The clozes.
        tokenizer: The tokenizer of the model.
        batch_size: Sentences a batch.

    Raises:
        TaskError: If the tokenizer has no mask, or a candidate has no tokens.
    """
    if tokenizer.mask_token_id is None:
        raise TaskError(f"clozes need a mask, and {type(tokenizer).__name__} has none; choose a base with masks")
    features = [one for number, cloze in enumerate(questions) for one in _features(number, cloze, tokenizer)]
    scores: list[dict[str, float]] = [{} for _ in questions]
    features.sort(key=lambda one: len(one["input_ids"]))
    training = model.training
    model.eval()
    try:
        for start in range(0, len(features), batch_size):
            some = features[start : start + batch_size]
            chances = _chances(model, some, tokenizer)
            for feature, chance in zip(some, chances, strict=True):
                for name, tokens in feature["words"].items():
                    found = chance[torch.arange(len(tokens)), torch.tensor(tokens)]
                    scores[feature["cloze"]][name] = float(found.mean())
    finally:
        model.train(training)
    return [1 + sum(s > found[c.answer] for s in found.values()) for c, found in zip(questions, scores, strict=True)]


def scores_of_ranks(ranks: Collection[int]) -> ClozeScores:
    """Accuracy and mean reciprocal rank; both 0 where there are no ranks."""
    count = len(ranks)
    return ClozeScores(count, sum(r == 1 for r in ranks) / max(count, 1), sum(1 / r for r in ranks) / max(count, 1))


def commonest(questions: Sequence[Cloze], triples: Sequence[Triple]) -> float:
    """The accuracy of always predicting the commonest object of the predicate, whatever the subject."""
    counts: dict[str, Counter[str]] = {}
    for triple in triples:
        counts.setdefault(triple.predicate, Counter())[triple.object] += 1
    right = [
        c.answer == counts[c.triple.predicate].most_common(1)[0][0] for c in questions if c.triple.predicate in counts
    ]
    return sum(right) / max(len(questions), 1)


def _features(number: int, cloze: Cloze, tokenizer: Any) -> list[dict[str, Any]]:
    """The sentence with as many masks as some candidates have tokens, for each such number."""
    by_length: dict[int, dict[str, list[int]]] = {}
    space = " " if cloze.before[-1:].isspace() else ""  # byte-level tokens begin with the space before a word
    for name in cloze.candidates:
        tokens = tokenizer(space + name, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise TaskError(f"{cloze.triple.place}: {name!r} has no tokens at all; take the triple out")
        by_length.setdefault(len(tokens), {})[name] = tokens
    found = []
    for count, words in by_length.items():
        text = cloze.before + " ".join([tokenizer.mask_token] * count) + cloze.after
        found.append({**tokenizer(text), "cloze": number, "words": words})
    return found


def _chances(model: Any, features: Sequence[dict[str, Any]], tokenizer: Any) -> list[Tensor]:
    """For each feature the log-probabilities at its masks, ``(masks, vocabulary)``."""
    batch = taken(pad_tokens(features, tokenizer), getattr(model, "base", model))
    device = next(model.parameters()).device
    with torch.no_grad():
        logits = model(**{key: value.to(device) for key, value in batch.items()}).logits
    at = (batch["input_ids"] == tokenizer.mask_token_id).to(device)
    return [row[mask].float().log_softmax(-1).cpu() for row, mask in zip(logits, at, strict=True)]
