"""What the kinds share in which a decoder answers a prompt in words: features with a prompt and an answer, and blocks of them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from graftwork.errors import TaskError
from graftwork.heads import CausalLM, HeadConfig
from graftwork.tasks.batches import IGNORED, finished, pad_tokens, padding_of, taken
from graftwork.tasks.cells import Cells
from graftwork.tasks.dialogues import ASSISTANT, SYSTEM, USER, Message, Transcriber, said, shortened
from graftwork.tasks.kind.contract import Feature, Kind
from graftwork.tasks.packing import block_batch, packed
from graftwork.tasks.rows import Rows
from graftwork.tasks.tokens import longest


class DecoderKind(Kind):
    """A prompt that a decoder answers; the logits are the base's own, and the loss is that of the answer's tokens.

    A feature has the tokens of the prompt and of the answer, and ``"prompt"``, the number of those before the answer.

    Attributes:
        examples: Dialogues with answers that stand before each prompt, except in training.
    """

    auto: ClassVar[str] = "AutoModelForCausalLM"
    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    answers: ClassVar[tuple[str, ...]] = ("target",)
    options: ClassVar[frozenset[str]] = frozenset({"system", "max_length", "max_target_length", "packing", "shots"})
    group: ClassVar[str | None] = "prompt"
    pads_labels: ClassVar[bool] = True
    has_weights: ClassVar[bool] = False

    examples: tuple[Message, ...] = ()

    def head(self) -> HeadConfig:
        return CausalLM()

    def read(self, cells: Cells) -> list[Message]:
        """The dialogue before the answer."""
        if self.spec.prompt not in cells.row and "messages" in cells.row:
            raise TaskError(
                f"{cells.place}: no column {self.spec.prompt!r}, and one of messages; say in the task that a row is a dialogue: "
                'messages = "messages"'
            )
        system = [] if self.spec.system is None else [said(SYSTEM, self.spec.system)]
        return [*system, said(USER, cells.text("prompt"))]

    def first_answer(self, cells: Cells) -> str | None:
        """The answer that is trained on."""
        answer = self.answer(cells)
        return answer[0] if isinstance(answer, list) else answer

    def with_examples(self, rows: Rows) -> DecoderKind:
        found = copy.copy(self)
        found.examples = tuple(
            message
            for cells in self.cells(rows)
            for message in (*self.read(cells), said(ASSISTANT, str(self.first_answer(cells))))
            if message["role"] != SYSTEM
        )
        return found

    def features(self, rows: Rows, processor: Any, *, max_length: int | None, train: bool) -> list[Feature]:
        self.check(rows, answered=train)
        limit = longest(self.spec, max_length, processor)
        if not train:
            return [
                feature
                for n, cells in enumerate(self.cells(rows))
                for feature in self.asking(n, cells, Transcriber(processor, cells.place), limit)
            ]
        made = [self._learnt(cells, Transcriber(processor, cells.place), limit) for cells in self.cells(rows)]
        cut = sum(feature.pop("cut") for feature in made)
        if cut:
            warnings.warn(
                f"task {self.task!r}: {cut} of {len(rows)} answers have more than max_target_length = "
                f"{self.spec.max_target_length} tokens, and the rest is cut off",
                stacklevel=2,
            )
        if not self.spec.packing:
            return made
        if limit is None:
            raise TaskError(f"task {self.task!r}: packing = true needs the length of a block; give max_length")
        return packed(made, limit)

    def asking(self, number: int, cells: Cells, transcriber: Transcriber, limit: int | None) -> list[Feature]:
        """The features of a row that is not for training."""
        raise NotImplementedError

    def prompt(self, cells: Cells, transcriber: Transcriber, room: int | None) -> tuple[list[Message], list[int]]:
        """The dialogue before a row's answer, with the examples, and its tokens, of which there is room for some."""
        messages = self.read(cells)
        system = [one for one in messages[:1] if one["role"] == SYSTEM]
        messages = [*system, *self.examples, *messages[len(system) :]]
        if room is None:
            return messages, transcriber.prompt(messages)
        kept = shortened(messages, lambda some: len(transcriber.prompt(some)) <= room) or messages
        return kept, transcriber.prompt(kept)[-room:]

    def _learnt(self, cells: Cells, transcriber: Transcriber, limit: int | None) -> Feature:
        """The feature of a row that is trained on."""
        messages, most = self.read(cells), self.spec.max_target_length
        answer = said(ASSISTANT, str(self.first_answer(cells)))
        size = len(transcriber.answer([*messages, answer]))
        kept = size if most is None else min(size, most)
        if limit is not None:
            if kept >= limit:
                raise TaskError(
                    f"{cells.place}: the answer has {kept} tokens, and prompt and answer together may have {limit} "
                    "(max_length); give a larger one, or cut answers off by max_target_length"
                )
            fitting = shortened(messages, lambda some: len(transcriber.whole([*some, answer], most)[0]) <= limit)
            messages = fitting or messages
        ids, labels = transcriber.whole([*messages, answer], most)
        ids, labels = (ids, labels) if limit is None else (ids[-limit:], [IGNORED, *labels[-limit:][1:]])
        return {"input_ids": ids, "labels": labels, "prompt": len(ids) - kept, "cut": size > kept}

    def collate(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Tensor]:
        if not all("rows" in feature for feature in features):
            return finished(pad_tokens(features, processor), features, for_model, padded=True)
        weight = None if for_model is None else next(for_model.parameters(), None)
        batch = block_batch(
            features, padding_of("input_ids", processor), torch.float32 if weight is None else weight.dtype
        )
        return finished(taken(batch, for_model), features, None, padded=True)
