"""A text that a decoder writes after a prompt, or as the assistant's answer in a dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from graftwork.errors import TaskError
from graftwork.tasks.batches import IGNORED, array, padding_of, same_count
from graftwork.tasks.cells import Cells
from graftwork.tasks.dialogues import ASSISTANT, SYSTEM, Message, Transcriber, read_messages, said
from graftwork.tasks.kind.contract import Feature, Kind, register
from graftwork.tasks.kind.decoder import DecoderKind
from graftwork.tasks.kind.likeliest import LikeliestChoice
from graftwork.tasks.rows import Prediction, Rows
from graftwork.tasks.scoring.texts import TEXT
from graftwork.tasks.spec import TaskSpec


@register
class Generation(DecoderKind):
    """A text written after a prompt.

    With ``messages`` a row is a dialogue (`Dialogue`); with ``choices`` the answer is the likeliest of them (`LikeliestChoice`).
    """

    name: ClassVar[str] = "generation"
    generates: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("rougeL", "bleu", "exact_match")
    form: ClassVar[str] = TEXT
    options: ClassVar[frozenset[str]] = DecoderKind.options | {
        "num_beams",
        "max_new_tokens",
        "temperature",
        "top_p",
        "top_k",
        "sampling_seed",
    }

    @classmethod
    def variant(cls, spec: TaskSpec) -> type[Kind]:
        if "choices" in spec.model_fields_set:
            return LikeliestChoice
        return cls if spec.messages is None else Dialogue

    def answer(self, cells: Cells) -> list[str] | None:
        value = cells.get("target")
        if value is None:
            return None
        return [cells.text("target")] if isinstance(value, (str, int, float)) else cells.texts("target")

    def generation(self) -> Mapping[str, Any]:
        spec = self.spec
        drawn = {"temperature": spec.temperature, "top_p": spec.top_p, "top_k": spec.top_k}
        found = {"num_beams": spec.num_beams, "max_new_tokens": spec.max_new_tokens}
        if all(
            value is None for value in drawn.values()
        ):  # what a base's own generation_config says of drawing is left out
            return {**found, "do_sample": False, **drawn}
        everything = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        given = {key: value for key, value in drawn.items() if value is not None}
        return {**found, "do_sample": True, **everything, **given}

    def asking(self, number: int, cells: Cells, transcriber: Transcriber, limit: int | None) -> list[Feature]:
        new = self.spec.max_new_tokens
        if limit is not None and limit <= new:
            raise TaskError(
                f"task {self.task!r}: max_new_tokens is {new}, and prompt and answer together may have {limit} tokens "
                "(max_length); give a larger max_length, or fewer new tokens"
            )
        messages, prompt = self.prompt(cells, transcriber, None if limit is None else limit - new)
        target = self.first_answer(cells)
        if target is None:
            return [{"input_ids": prompt, "prompt": len(prompt)}]
        answer = transcriber.answer([*messages, said(ASSISTANT, target)])[:new]
        labels = [*[IGNORED] * len(prompt), *answer]
        return [{"input_ids": [*prompt, *answer], "labels": labels, "prompt": len(prompt)}]

    def asked(self, features: Sequence[Feature], processor: Any, *, for_model: Any = None) -> dict[str, Any]:
        prompts = [feature["input_ids"][: feature.get("prompt")] for feature in features]
        most, padding = max(map(len, prompts)), padding_of("input_ids", processor)
        # on the left, so that every row goes on where its prompt ends
        ids = [[*[padding] * (most - len(one)), *one] for one in prompts]
        mask = [[*[0] * (most - len(one)), *[1] * len(one)] for one in prompts]
        own = getattr(getattr(for_model, "generation_config", None), "eos_token_id", None)
        ends = {processor.eos_token_id, *(own if isinstance(own, list) else [] if own is None else [own])}
        return {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(mask),
            "pad_token_id": padding,
            "eos_token_id": sorted(ends),
            **self.generation(),
        }

    def decode(
        self, outputs: Sequence[Any], features: Sequence[Feature], rows: Rows, processor: Any
    ) -> list[Prediction]:
        same_count(outputs, rows, "rows")
        written = ([int(token) for token in array(output) if token >= 0] for output in outputs)
        return [Prediction(str(processor.decode(tokens, skip_special_tokens=True)).strip()) for tokens in written]


class Dialogue(Generation):
    """A dialogue whose last message, the assistant's, is the answer; in training all messages of the assistant are."""

    name: ClassVar[str] = "generation with messages"
    reads: ClassVar[tuple[str, ...]] = ("messages",)
    answers: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[str | None] = "messages"

    def read(self, cells: Cells) -> list[Message]:
        messages = read_messages(cells)
        if messages[-1]["role"] == ASSISTANT:
            messages.pop()
        if not messages or messages[-1]["role"] == ASSISTANT:
            raise cells.wrong("messages", "two messages of the assistant follow one another at its end; make them one")
        if self.spec.system is None or messages[0]["role"] == SYSTEM:
            return messages
        return [said(SYSTEM, self.spec.system), *messages]

    def answer(self, cells: Cells) -> list[str] | None:
        last = read_messages(cells)[-1]
        return [last["content"]] if last["role"] == ASSISTANT else None

    def typed(self, texts: Sequence[str]) -> dict[str, Any]:
        """One text: what the user says."""
        row = super().typed(texts)
        return {column: [said("user", text)] for column, text in row.items()}

    def _unanswered(self, cells: Cells) -> TaskError:
        return cells.wrong(
            "messages", "the last message has to be the assistant's, which is the answer, except in test rows"
        )
