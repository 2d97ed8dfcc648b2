"""The right answers to a question, and where they stand in its context."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from graftwork.tasks.cells import Cells, shown


@dataclasses.dataclass(frozen=True)
class Answers:
    """What is right: texts and where each starts in the context; none where the context does not answer."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


def read_answers(cells: Cells, *, none_allowed: bool) -> Answers | None:
    """The answers of a row, ``None`` where it does not say.

    They are ``{"text": [...], "answer_start": [...]}``, a list of ``{"text": ..., "answer_start": ...}``, or one text, with
    ``answer_start`` a column of its own; where that is missing, the first place where the text stands.

    Raises:
        TaskError: If they are something else, or one does not stand where it should.
    """
    value = cells.get("answers")
    if value is None:
        return None
    texts, starts = _apart(value, cells)
    if not texts and not none_allowed:
        raise cells.wrong("answers", "there is no answer; take the row out, or set no_answer = true")
    context = cells.text("context")
    checked = [_place(text, start, context, cells) for text, start in zip(texts, starts, strict=True)]
    return Answers(tuple(texts), tuple(checked))


def _apart(value: Any, cells: Cells) -> tuple[list[str], list[Any]]:
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = cells.json("answers")
    if isinstance(value, str):
        return ([value], [cells.get("answer_start")]) if value else ([], [])
    if isinstance(value, (list, tuple)) and all(isinstance(one, Mapping) for one in value):
        value = {key: [one.get(key) for one in value] for key in ("text", "answer_start")}
    form = 'it must be {"text": [...], "answer_start": [...]} or one text; rewrite it'
    if not isinstance(value, Mapping) or not {"text", "answer_start"} <= set(value):
        raise cells.wrong("answers", form)
    texts, starts = (list(v) if hasattr(v, "__iter__") and not isinstance(v, str) else [v] for v in _both(value))
    if len(texts) != len(starts):
        raise cells.wrong("answers", f"{len(texts)} texts and {len(starts)} starts; give one start a text")
    if not all(isinstance(text, str) and text for text in texts):
        raise cells.wrong("answers", form)
    return texts, starts


def _both(value: Mapping[str, Any]) -> tuple[Any, Any]:
    return value["text"], value["answer_start"]


def _place(text: str, start: Any, context: str, cells: Cells) -> int:
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
        hint = f"it stands at {found}" if found >= 0 else "it stands nowhere in it"
        raise cells.wrong(
            "answers",
            f"the answer {text!r} is not at its start {at}, where the context has {there!r} ({hint}; starts count "
            "characters, not bytes); correct it or take the row out",
        )
    return at
