"""Dialogues as tokens: by the tokenizer's chat template, or one text behind the other where it has none.

    text(messages[:n], ask)   everything before the n-th message, with the header of the assistant's turn
    text(messages[:n + 1])    the same with that message; what is added is the assistant's, and is learnt

A text is cut where a message of the assistant begins and ends, and each part is made into tokens by itself: a model that generates
is given the same tokens before an answer as one that learns it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftwork.errors import TaskError
from graftwork.options import nearest
from graftwork.tasks.batches import IGNORED
from graftwork.tasks.cells import Cells
from graftwork.tasks.rows import Place

Message = dict[str, str]
SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")


def said(role: str, text: str) -> Message:
    """A message."""
    return {"role": role, "content": text}


def read_messages(cells: Cells) -> list[Message]:
    """The messages of a row, checked.

    Raises:
        TaskError: If they are no list of ``{"role": ..., "content": ...}``, a role is not known, or the system is not the first.
    """
    messages: list[Message] = []
    for number, one in enumerate(cells.several("messages"), 1):
        what = f"number {number} of it"
        if not isinstance(one, Mapping) or not all(isinstance(one.get(key), str) for key in ("role", "content")):
            raise cells.wrong("messages", f'{what} must be {{"role": ..., "content": ...}}, both texts; rewrite it')
        if one["role"] not in ROLES:
            raise cells.wrong("messages", f"{what} has the role {one['role']!r}; {nearest(one['role'], ROLES)}")
        if one["role"] == SYSTEM and messages:
            raise cells.wrong("messages", f"{what} is the system's; it can only be the first")
        messages.append(said(one["role"], one["content"]))
    if messages[-1]["role"] == SYSTEM or all(message["role"] != USER for message in messages):
        raise cells.wrong("messages", "the user says nothing in it; give a message of the user")
    return messages


def has_template(tokenizer: Any) -> bool:
    """Whether a tokenizer has a chat template."""
    return getattr(tokenizer, "chat_template", None) is not None


class Transcriber:
    """Dialogues as tokens of one tokenizer.

    Args:
        tokenizer: The tokenizer.
        place: The row that the dialogue is of, for messages.

    Raises:
        TaskError: If the tokenizer has no end token.
    """

    def __init__(self, tokenizer: Any, place: Place) -> None:
        self.tokenizer, self.place = tokenizer, place
        self.end = tokenizer.eos_token_id
        if self.end is None:
            raise TaskError(
                f"{type(tokenizer).__name__} has no end token, so that no answer would ever end; set tokenizer.eos_token and "
                "save the tokenizer, or take another one (base.tokenizer)"
            )

    def text(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """A dialogue as text; with ``ask`` the assistant's next turn is begun.

        Raises:
            TaskError: If the chat template refuses it.
        """
        if not has_template(self.tokenizer):
            lines = ("\n" * (n > 0 and one["role"] != ASSISTANT) + one["content"] for n, one in enumerate(messages))
            return "".join(lines)
        try:
            made = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask)
        except Exception as error:  # a template may raise anything
            roles = ", ".join(one["role"] for one in messages)
            raise TaskError(
                f"{self.place}: the chat template of the tokenizer refuses messages of {roles}: {error}; rewrite the row"
            ) from error
        return str(made)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a dialogue, up to where the assistant's next message begins."""
        return [*self._begin(), *self._tokens(self.text(messages, ask=True))]

    def answer(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of the last message, which is the assistant's, and an end token."""
        before, after = self.text(messages[:-1], ask=True), self.text(messages)
        self._check(before, after, after)
        return self._ended(self._tokens(after[len(before) :]))[0]

    def whole(self, messages: Sequence[Message], most: int | None = None) -> tuple[list[int], list[int]]:
        """The tokens of a dialogue that ends with the assistant's message, and the labels: -100 but for the assistant's tokens.

        Args:
            messages: The dialogue.
            most: The most tokens of the last message.

        Raises:
            TaskError: If the chat template does not write a message in the same way where others follow it.
        """
        text, end = self.text(messages), 0
        ids = list(self._begin())
        labels = [IGNORED] * len(ids)
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            last = number == len(messages) - 1
            before, after = self.text(messages[:number], ask=True), self.text(messages[: number + 1])
            self._check(before, after, text)
            given = self._tokens(text[end : len(before)])
            learnt, rest = self._ended(self._tokens(text[len(before) : len(after)]), add=last)
            if last:
                learnt, rest = learnt[:most], []
            ids += [*given, *learnt, *rest]
            labels += [*[IGNORED] * len(given), *learnt, *[IGNORED] * len(rest)]
            end = len(after)
        return ids, labels

    def _check(self, before: str, after: str, text: str) -> None:
        if not (after.startswith(before) and text.startswith(after)):
            raise TaskError(
                f"{self.place}: the chat template of the tokenizer writes a message of the assistant in another way where it is "
                "asked for than where it is given, or where others follow it, so that its tokens cannot be told; give rows "
                "with one answer each, or a tokenizer with another chat_template"
            )

    def _begin(self) -> list[int]:
        """The token that the tokenizer begins every text with; a chat template writes its own."""
        begin = getattr(self.tokenizer, "bos_token_id", None)
        if begin is None or has_template(self.tokenizer):
            return []
        return [begin] if self.tokenizer("a")["input_ids"][0] == begin else []

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _ended(self, tokens: list[int], *, add: bool = True) -> tuple[list[int], list[int]]:
        """The tokens of an answer up to its end token, and what the template has behind it."""
        if self.end in tokens:
            size = len(tokens) - tokens[::-1].index(self.end)
            return tokens[:size], tokens[size:]
        return [*tokens, *[self.end] * add], []


def shortened(messages: Sequence[Message], fits: Callable[[list[Message]], bool]) -> list[Message] | None:
    """The dialogue without its beginning, as little of it left out as needed; ``None`` where even its end does not fit.

    The oldest turns go first, each with the answers to it, then the beginning of the user's last message and of the system's.

    Args:
        messages: The dialogue, in which the assistant's next message is asked for.
        fits: Whether a dialogue is short enough.
    """
    system = [one for one in messages[:1] if one["role"] == SYSTEM]
    turns = list(messages[len(system) :])
    starts = [n for n, one in enumerate(turns) if n == 0 or one["role"] == USER]
    for start in starts:
        if fits([*system, *turns[start:]]):
            return [*system, *turns[start:]]
    kept = [*system, *turns[starts[-1] :]]
    for number in (len(system), 0):
        before, content, after = kept[:number], kept[number], kept[number + 1 :]

        def cut(size: int, before: Any = before, content: Any = content, after: Any = after) -> list[Message]:
            return [*before, said(content["role"], content["content"][size:]), *after]

        size = len(content["content"])
        kept = cut(bisect.bisect_left(range(size), True, key=lambda n: fits(cut(n))))
        if fits(kept):
            return kept
    return None
