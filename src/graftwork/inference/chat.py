"""A chat with a task of a run whose answers are written by a decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import TextStreamer

from graftwork.errors import RecipeError
from graftwork.inference.predictor import Predictor
from graftwork.tasks import Rows
from graftwork.tasks.dialogues import ASSISTANT, USER, Message, has_template, said
from graftwork.tasks.kind.generation import Dialogue, Generation
from graftwork.training.outputs import evaluating, generated


class Chat:
    """A dialogue that goes on: what was said before stands before each new message, as far as ``max_length`` allows.

    Args:
        predictor: A task of a run.
        system: The system's message; by default the task's.

    Attributes:
        messages: What was said.
        has_template: Whether the tokenizer has a chat template; without one a message is continued as plain text.

    Raises:
        RecipeError: If the task's answers are not written by a decoder.
    """

    def __init__(self, predictor: Predictor, system: str | None = None) -> None:
        kind = predictor.kind
        if not isinstance(kind, Generation):
            raise RecipeError(
                f"the task {predictor.task!r} is of the kind {kind.name}, and a chat is with a task of the kind generation, whose "
                "answers are written; ask it by graftwork predict"
            )
        # by one beam an answer can be shown while it is written
        changes = {"messages": "messages", "num_beams": 1, **({} if system is None else {"system": system})}
        self._kind = Dialogue(kind.spec.model_copy(update=changes), name=predictor.task)
        self._predictor = predictor
        self.messages: list[Message] = []
        self.has_template = has_template(predictor.processor)

    def reset(self) -> None:
        """Forget what was said."""
        self.messages = []

    def say(self, text: str, show: Callable[[str], None] | None = None) -> str:
        """Return the answer to a message.

        Args:
            text: The message.
            show: Called with each piece of the answer as soon as it is written.

        Raises:
            TaskError: If the chat template refuses the message.
        """
        model, tokenizer = self._predictor.model, self._predictor.processor
        asked = [*self.messages, said(USER, text)]
        rows = Rows([{"messages": asked}], source="what was typed")
        features = self._kind.features(rows, tokenizer, max_length=self._predictor.recipe.base.max_length, train=False)
        streamer = None if show is None else Shown(tokenizer, show)
        with evaluating(model), torch.no_grad(), self._predictor.autocast():
            tokens = generated(model, self._kind, features, tokenizer, streamer=streamer)
        (answer,) = self._kind.decode(list(tokens.cpu()), features, rows, tokenizer)
        self.messages = [*asked, said(ASSISTANT, answer.value)]
        return str(answer.value)


class Shown(TextStreamer):
    """What is generated as text, piece by piece, without the prompt and special tokens."""

    def __init__(self, tokenizer: object, show: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        self.show = show

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Show a piece."""
        self.show(text)
