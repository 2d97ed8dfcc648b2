"""A question and its context as windows of tokens that overlap, each with what it needs to be read back."""

from __future__ import annotations

from typing import Any

from graftwork.errors import TaskError
from graftwork.tasks.answers import Answers
from graftwork.tasks.rows import Place

# where neither the task, the recipe nor the tokenizer says
DEFAULT_LENGTH = 384


def windows(
    question: str, context: str, tokenizer: Any, *, limit: int | None, stride: int, place: Place
) -> list[dict[str, Any]]:
    """The windows of one row.

    Each has, beside what the tokenizer makes, ``"offsets"``: for each token of the context where it starts and ends in the
    context, ``None`` for every other token.

    Args:
        question: Cut to half of the limit where it is longer.
        context: Cut into windows that share ``stride`` tokens.
        tokenizer: One that knows offsets.
        limit: How many tokens a window may have, with the question.
        stride: Less where the windows are short.
        place: Where the row came from, for complaints.

    Raises:
        TaskError: If there is no room for a context.
    """
    limit = limit or DEFAULT_LENGTH
    asked = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
    spans = asked["offset_mapping"]
    if len(spans) > limit // 2:
        question = question[: spans[limit // 2 - 1][1]]
    room = limit - min(len(spans), limit // 2) - tokenizer.num_special_tokens_to_add(pair=True)
    if room < 1:
        raise TaskError(
            f"{place}: max_length {limit} leaves no room for a context behind the question; give a larger one"
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
    return [_window(tokens, n, parts.index(1)) for n in range(len(tokens["input_ids"]))]


def _window(tokens: Any, n: int, begin: int) -> dict[str, Any]:
    apart = ("offset_mapping", "overflow_to_sample_mapping")
    window = {key: tokens[key][n] for key in tokens if key not in apart}
    # what covers nothing, as the frame behind the context, neither starts nor ends an answer
    places = enumerate(tokens["offset_mapping"][n])
    window["offsets"] = [[int(a), int(b)] if at >= begin and b > a else None for at, (a, b) in places]
    return window


def ends(answers: Answers, offsets: list[list[int] | None]) -> list[int]:
    """The positions of the first and the last token of the first answer; ``[0, 0]`` where it is not whole in the window."""
    if not answers.texts:
        return [0, 0]
    start = answers.starts[0]
    end = start + len(answers.texts[0])
    inside = [n for n, span in enumerate(offsets) if span and span[0] < end and span[1] > start]
    if not inside:
        return [0, 0]
    first, last = offsets[inside[0]], offsets[inside[-1]]
    assert first and last
    return [inside[0], inside[-1]] if _covered(first, last, start, end, offsets) else [0, 0]


def _covered(first: list[int], last: list[int], start: int, end: int, offsets: list[list[int] | None]) -> bool:
    """Whether an answer is whole in a window: it does not go on in the window before or behind."""
    there = [span for span in offsets if span]
    began = first[0] <= start or first is not there[0]
    ended = last[1] >= end or last is not there[-1]
    return began and ended
