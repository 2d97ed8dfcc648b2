"""Which of some choices a decoder finds likeliest after a prompt: classification and multiple choice in words.

    score(c) = Σ_t log p(c_t | prompt, c_<t)        c the tokens of a choice, with the end token behind it

The end token tells "no" from "no more". Probabilities are the softmax of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from graftwork.errors import TaskError
from graftwork.options import hint
from graftwork.tasks.batches import IGNORED, array, same_count, softmax
from graftwork.tasks.cells import Cells
from graftwork.tasks.dialogues import ASSISTANT, Transcriber, said
from graftwork.tasks.kind.classification import OneLabel, check_positive
from graftwork.tasks.kind.contract import Feature
from graftwork.tasks.kind.decoder import DecoderKind
from graftwork.tasks.label_names import enough
from graftwork.tasks.rows import Prediction, Row, Rows
from graftwork.tasks.spec import TaskSpec


class LikeliestChoice(DecoderKind, OneLabel):
    """The likeliest of some choices, the same for all rows or a row's own; a prediction's value is the choice.

    A row that is not for training has a feature for each choice, whose labels are the choice's tokens.
    """

    name: ClassVar[str] = "generation with choices"
    answers: ClassVar[tuple[str, ...]] = ("target",)
    options: ClassVar[frozenset[str]] = DecoderKind.options | {"choices", "length_normalized", "positive"}
    has_loss: ClassVar[bool] = False

    @classmethod
    def columns(cls, spec: TaskSpec, *, train: bool) -> tuple[str, ...]:
        prompt, *target = super().columns(spec, train=train)
        return (prompt, *([spec.choices] if isinstance(spec.choices, str) else []), *target)

    @classmethod
    def check_spec(cls, name: str, spec: TaskSpec) -> None:
        if spec.messages is not None:
            raise TaskError(
                f"task {name!r}: choices are given, and messages = {spec.messages!r}; choices stand after a prompt: give "
                "prompt and target, or leave the choices out"
            )
        super().check_spec(name, spec)

    @classmethod
    def find_labels(
        cls, name: str, spec: TaskSpec, train: Rows, data_labels: tuple[str, ...] | None
    ) -> tuple[str, ...]:
        if isinstance(spec.choices, str):
            return ()
        where = f"task {name!r}"
        check_positive(where, spec, "f1" in (spec.metrics or ()), enough(spec.choices, 2, where), True)
        return spec.choices

    def metric_names(self) -> tuple[str, ...]:
        return self.spec.metrics or (("accuracy", "macro_f1") if self.labels else ("accuracy",))

    def choices(self, cells: Cells) -> tuple[str, ...]:
        """The choices of a row.

        Raises:
            TaskError: If there are fewer than two, or two are alike.
        """
        if self.labels:
            return self.labels
        found = cells.texts("choices")
        if len(found) < 2 or len(set(found)) < len(found):
            raise cells.wrong("choices", "give two choices or more, each once")
        return tuple(found)

    def answer(self, cells: Cells) -> str | None:
        if cells.get("target") is None:
            return None
        answer, choices = cells.text("target"), self.choices(cells)
        if answer not in choices:
            ways = hint(answer, choices) or "write one of them, or add it to the choices"
            raise cells.wrong("target", f"it is none of the choices ({', '.join(choices[:20])}); {ways}")
        return answer

    def check(self, rows: Rows, *, answered: bool) -> None:
        for cells in self.cells(rows):
            self.choices(cells)
        super().check(rows, answered=answered)

    def typed(self, texts: Sequence[str]) -> Row:
        """The prompt, and after it the choices where each row has its own."""
        if self.labels:
            return super().typed(texts)
        if len(texts) < 3:
            raise TaskError(f"task {self.task!r} is asked with the {self.spec.prompt} and then two choices or more")
        return {**super().typed(texts[:1]), str(self.spec.choices): list(texts[1:])}

    def asking(self, number: int, cells: Cells, transcriber: Transcriber, limit: int | None) -> list[Feature]:
        choices, read = self.choices(cells), self.read(cells)
        longest = max(len(transcriber.answer([*read, said(ASSISTANT, choice)])) for choice in choices)
        if limit is not None and longest >= limit:
            raise TaskError(
                f"{cells.place}: a choice has {longest} tokens, and prompt and choice together may have {limit} "
                "(max_length); give a larger one"
            )
        messages, prompt = self.prompt(cells, transcriber, None if limit is None else limit - longest)
        answers = [transcriber.answer([*messages, said(ASSISTANT, choice)]) for choice in choices]
        return [
            {
                "input_ids": [*prompt, *one],
                "labels": [*[IGNORED] * len(prompt), *one],
                "prompt": len(prompt),
                "row": number,
            }
            for one in answers
        ]

    def reduce(self, logits: Tensor, labels: Tensor | None = None) -> Tensor:
        """The log-probability of each sequence's labelled tokens, ``(batch, 1)``."""
        if labels is None:
            return logits
        right = labels[:, 1:]
        seen = right != IGNORED
        # of these positions alone: a vocabulary is large, and a prompt long
        wide = logits[:, :-1][seen].to(torch.promote_types(logits.dtype, torch.float32))
        losses = F.cross_entropy(wide, right[seen], reduction="none")
        return -losses.new_zeros(len(labels), 1).index_add(0, seen.nonzero()[:, 0], losses[:, None])

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, features)
        scores: list[list[float]] = [[] for _ in rows]
        for output, feature in zip(outputs, features, strict=True):
            score = self._score(array(output), feature)
            size = len(feature["input_ids"]) - feature["prompt"]
            scores[feature["row"]].append(score / size if self.spec.length_normalized else score)
        return [self._predict(np.array(one), cells) for one, cells in zip(scores, self.cells(rows), strict=True)]

    def _score(self, output: np.ndarray, feature: Feature) -> float:
        if output.size > 1:  # logits that `reduce` has not seen
            size = len(feature["labels"])
            output = self.reduce(torch.from_numpy(output[None, :size]), torch.tensor([feature["labels"]])).numpy()
        return float(output.reshape(-1)[0])

    def _predict(self, scores: np.ndarray, cells: Cells) -> Prediction:
        choices, chances = self.choices(cells), softmax(scores)
        return Prediction(choices[int(chances.argmax())], dict(zip(choices, chances.tolist(), strict=True)))
