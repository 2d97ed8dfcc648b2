"""Questions about a context: the right answers, and the windows of tokens that a model reads the context in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.cells import Cells, shown
from graftwork.tasks.rows import Place

# where neither the task, the recipe nor the tokenizer says
_DEFAULT_LENGTH = 384


@dataclasses.dataclass(frozen=True)
class Answers:
    """The right texts, and where each starts in the context; none where the context has no answer."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


def read_answers(cells: Cells, *, none_allowed: bool) -> Answers | None:
    """The answers of a row, ``None`` where it has no such column.

    They are ``{"text": [...], "answer_start": [...]}``, a list of ``{"text": ..., "answer_start": ...}``, or one text, with
    ``answer_start`` a column of its own. Where the start is missing, it is the first place of the text in the context.
    """
    value = cells.get("answers")
    if value is None:
        return None
    texts, starts = _texts_and_starts(value, cells)
    if not texts and not none_allowed:
        raise cells.wrong("answers", "there is no answer; take the row out, or set no_answer = true")
    context = cells.text("context")
    checked = [_start(text, start, context, cells) for text, start in zip(texts, starts, strict=True)]
    return Answers(tuple(texts), tuple(checked))


def _texts_and_starts(value: Any, cells: Cells) -> tuple[list[str], list[Any]]:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = cells.json("answers")
    if isinstance(value, str):
        return ([value], [cells.get("answer_start")]) if value else ([], [])
    keys = ("text", "answer_start")
    if isinstance(value, (list, tuple)) and all(isinstance(one, Mapping) for one in value):
        value = {key: [one.get(key) for one in value] for key in keys}
    form = 'it must be {"text": [...], "answer_start": [...]} or one text; rewrite it'
    if not isinstance(value, Mapping) or not set(keys) <= set(value):
        raise cells.wrong("answers", form)
    parts = [value[key] for key in keys]
    texts, starts = (list(v) if hasattr(v, "__iter__") and not isinstance(v, str) else [v] for v in parts)
    if len(texts) != len(starts):
        raise cells.wrong("answers", f"{len(texts)} texts and {len(starts)} starts; give one start a text")
    if not all(isinstance(text, str) and text for text in texts):
        raise cells.wrong("answers", form)
    return texts, starts


def _start(text: str, start: Any, context: str, cells: Cells) -> int:
    """Where an answer starts in its context, checked."""
    found = context.find(text)
    if start is None or start == "":
        if found < 0:
            raise cells.wrong(
                "answers", f"the answer {text!r} does not stand in the context; correct it or take the row out"
            )
        return found
    try:
        at = int(start)
    except (TypeError, ValueError, OverflowError):
        raise cells.wrong("answers", f"the start {shown(start)} is no whole number; correct it") from None
    if at < 0 or context[at : at + len(text)] != text:
        there = context[max(at, 0) : max(at, 0) + len(text)]
        hint = f"it is at {found}" if found >= 0 else "it is nowhere in it"
        raise cells.wrong(
            "answers",
            f"the answer {text!r} is not at its start {at}, where the context has {there!r} ({hint}; starts count "
            "characters, not bytes); correct it or take the row out",
        )
    return at


def windows(
    question: str, context: str, tokenizer: Any, *, limit: int | None, stride: int, place: Place
) -> list[dict[str, Any]]:
    """The windows of one row, which overlap; each has the question before its part of the context.

    A window has at most ``limit`` tokens, of which at most half are the question's, and shares ``stride`` with the next, at most
    half of its room for the context. In addition to what the tokenizer makes, it has ``"offsets"``: for each token of the context
    where it starts and ends in the context, ``None`` for every other token.
    """
    limit = limit or _DEFAULT_LENGTH
    spans = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(spans) > limit // 2:
        question = question[: spans[limit // 2 - 1][1]]
    room = limit - min(len(spans), limit // 2) - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 1:
        raise TaskError(
            f"{place}: max_length {limit} leaves no room for a context after the question; give a larger one"
        )
    tokens = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=limit,
        stride=min(stride, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    parts = tokens.sequence_ids(0)
    if 1 not in parts:
        raise TaskError(f"{place}: the context {context[:40]!r} has no tokens at all; take the row out")
    # every window begins with the same question; what sequence_ids say of later windows is not sure in tokenizers < 0.23
    begin = parts.index(1)
    found = []
    for n in range(len(tokens["input_ids"])):
        window = {key: tokens[key][n] for key in tokens}
        window.pop("overflow_to_sample_mapping", None)
        # a token that covers nothing, as the special token after the context, neither starts nor ends an answer
        places = enumerate(window.pop("offset_mapping"))
        window["offsets"] = [[int(a), int(b)] if at >= begin and b > a else None for at, (a, b) in places]
        found.append(window)
    return found


def ends(answers: Answers, offsets: list[list[int] | None]) -> list[int]:
    """The positions of the first and the last token of the first answer; ``[0, 0]`` where it is not whole in the window."""
    if not answers.texts:
        return [0, 0]
    start = answers.starts[0]
    end = start + len(answers.texts[0])
    spans = {n: span for n, span in enumerate(offsets) if span}
    inside = [n for n, (begin, stop) in spans.items() if begin < end and stop > start]
    if not inside:
        return [0, 0]
    first, last = inside[0], inside[-1]
    # an answer is cut where it goes on before the first or after the last token of the window
    cut = (first == min(spans) and spans[first][0] > start) or (last == max(spans) and spans[last][1] < end)
    return [0, 0] if cut else [first, last]
