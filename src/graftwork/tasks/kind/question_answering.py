"""The answer to a question, as a part of its context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from graftwork.heads import HeadConfig, QuestionAnswering
from graftwork.tasks.answers import Answers, ends, read_answers, windows
from graftwork.tasks.batches import array, same_count, softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.kind.contract import Feature, Kind, register
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.answers import ANSWER
from graftwork.tasks.tokens import longest, require_fast

BEST = 20
LONGEST_ANSWER = 30


@register
class SpanAnswering(Kind):
    """The part of a context that answers a question, as in SQuAD; ``""`` where none does and ``no_answer`` is set.

    A long context is read in windows, several features a row, and the best span of all of them is the answer. The ``extra``
    of a prediction has where it starts and ends, and the ``nbest`` spans with their probabilities, which sum to 1.
    """

    name: ClassVar[str] = "question_answering"
    metrics: ClassVar[tuple[str, ...]] = ("squad_f1", "exact_match")
    form: ClassVar[str] = ANSWER
    cuts: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("question", "context")
    answers: ClassVar[tuple[str, ...]] = ("answers",)
    options: ClassVar[frozenset[str]] = frozenset({"answer_start", "max_length", "stride", "no_answer"})
    group: ClassVar[str | None] = "context"

    def read(self, cells: Cells) -> tuple[str, str]:
        return cells.text("question"), cells.text("context")

    def answer(self, cells: Cells) -> list[str] | None:
        answers = self._answers(cells)
        return None if answers is None else list(answers.texts) or [""]

    def _answers(self, cells: Cells) -> Answers | None:
        return read_answers(cells, none_allowed=self.spec.no_answer)

    def head(self) -> HeadConfig:
        return QuestionAnswering()

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        require_fast(processor, "question answering")
        limit = longest(self.spec, max_length, processor)
        features: list[Feature] = []
        for n, cells in enumerate(self.cells(rows)):
            question, context = self.read(cells)
            answers = self._answers(cells)
            for window in windows(
                question, context, processor, limit=limit, stride=self.spec.stride, place=cells.place
            ):
                labels = {} if answers is None else {"labels": ends(answers, window["offsets"])}
                features.append({**window, **labels, "row": n})
        return features

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, features)
        found: list[list[tuple[float, int, int]]] = [[] for _ in rows]
        empty = [np.inf] * len(rows)
        for output, feature in zip(outputs, features, strict=True):
            logits, row = array(output), feature["row"]
            found[row] += best_spans(logits, feature["offsets"])
            # a row has no answer if no window has one: the least certain window decides
            empty[row] = min(empty[row], float(logits[0].sum()))
        cells = self.cells(rows)
        return [self._predict(cells[n].text("context"), found[n], empty[n]) for n in range(len(rows))]

    def _predict(self, context: str, spans: list[tuple[float, int, int]], empty: float) -> Prediction:
        # windows overlap: the same span may occur twice, and counts with its better score
        best: dict[tuple[int, int], float] = {}
        for score, *span in spans:
            place = _trimmed(context, *span)
            best[place] = max(score, best.get(place, -np.inf))
        if not best or self.spec.no_answer:
            best[0, 0] = empty
        ranked = sorted(best.items(), key=lambda item: -item[1])[:BEST]
        chances = softmax(np.array([score for _, score in ranked]))
        nbest = [
            {"text": context[start:end], "start": start, "end": end, "probability": float(chance)}
            for ((start, end), _), chance in zip(ranked, chances, strict=True)
        ]
        first = nbest[0]
        return Prediction(first["text"], extra={"start": first["start"], "end": first["end"], "nbest": nbest})


def best_spans(logits: np.ndarray, offsets: Sequence[list[int] | None]) -> list[tuple[float, int, int]]:
    """The best spans of a window: score, and where each starts and ends in the context.

    The logits of starts and ends are ``(positions, 2)``; positions after the offsets are padding.
    """
    places = {n: span for n, span in enumerate(offsets) if span}
    inside = np.array(list(places), dtype=int)
    if not len(inside):
        return []
    starts, ends_ = (inside[np.argsort(-logits[inside, side], kind="stable")[:BEST]] for side in (0, 1))
    spans = [
        (float(logits[first, 0] + logits[last, 1]), first, last)
        for first in starts
        for last in ends_
        if first <= last < first + LONGEST_ANSWER
    ]
    # of the best starts and ends none may fit together; one token always does
    if not spans:
        sums = logits[inside].sum(-1)
        one = inside[sums.argmax()]
        spans = [(float(sums.max()), one, one)]
    spans.sort(key=lambda span: -span[0])
    return [(score, places[first][0], places[last][1]) for score, first, last in spans[:BEST]]


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """A span without the spaces that a byte-level token has before its word."""
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())
