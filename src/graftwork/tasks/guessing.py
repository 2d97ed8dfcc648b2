"""The kind of a task and the roles of its columns, guessed from the rows, with the reason in words."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from graftwork.errors import TaskError
from graftwork.options import hint, nearest
from graftwork.tasks.kind import kinds
from graftwork.tasks.reading import draw
from graftwork.tasks.rows import Rows, is_index

_LOOKED_AT = 2000  # rows
_MOST_CLASSES = 20  # different whole numbers that are taken for classes, not for quantities
# Names that columns of a role often have, the likeliest first.
_NAMES: dict[str, tuple[str, ...]] = {
    "label": tuple(
        "label labels class category target sentiment intent topic y gold score rating stars similarity".split()
    ),
    "text": tuple(
        "text sentence sentence1 premise text_a message review question1 content body document input source".split()
    ),
    "pair": tuple("text_pair sentence2 hypothesis text_b question2 pair".split()),
    "target": tuple("target summary output translation completion response answer".split()),
    "prompt": ("prompt", "instruction"),
    "choices": ("choices", "options", "endings"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "labels"),
    "messages": ("messages", "conversations", "conversation"),
    "question": ("question",),
    "context": ("context", "passage"),
    "answers": ("answers", "answer"),
    "image": ("image", "img", "path"),
}
# What the columns are called where a task does not say.
_DEFAULTS = {
    **{role: role for role in "text label choices tokens tags question context answers target prompt image".split()},
    "pair": "text_pair",
}
_IDENTITY = re.compile(r"(?:.*[_ ])?(?:id|idx|index|uuid|guid)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Guess:
    """What a task seems to be.

    Attributes:
        kind: The kind of the task.
        columns: The column of each role that is used, by the names that a `TaskSpec` has for roles.
        why: The reason, in words.
        unused: The columns that are not read.
    """

    kind: str
    columns: Mapping[str, str]
    why: str
    unused: tuple[str, ...]

    def to_spec(self) -> dict[str, Any]:
        """The fields of a `TaskSpec` that differ from its defaults."""
        fields = {} if self.kind == "classification" else {"kind": self.kind}
        return {**fields, **{role: name for role, name in self.columns.items() if name != _DEFAULTS.get(role)}}


def guess(
    rows: Rows,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    encoder_decoder: bool | None = None,
) -> Guess:
    """Guess what a task is from its training rows.

    Args:
        rows: The rows.
        kind: The kind, where it is known.
        columns: The columns of some roles, where they are known, such as ``{"text": "message"}``.
        encoder_decoder: Whether the base has an encoder and a decoder: texts are written by it as ``text_to_text``, by any
            other base as ``generation``.

    Raises:
        TaskError: If nothing fits, saying what can be given.

    Example:
        >>> guess(Rows([{"message": "Good film.", "mood": "glad"}, {"message": "Bad film.", "mood": "sad"}] * 9)).columns
        {'text': 'message', 'label': 'mood'}
    """
    seen = _Columns(draw(rows, _LOOKED_AT), dict(columns or {}))
    if kind is not None and kind not in kinds:
        raise TaskError(f"kind {kind!r} is not known; {nearest(kind, kinds)}")
    writing = "text_to_text" if encoder_decoder else "generation"
    for name, find in _FINDERS:
        of = (writing,) if name == "writing" else (name,)
        if kind is not None and kind not in _SERVED.get(name, of):
            continue
        found = find(seen)
        if found is not None:
            roles, why, named = found
            chosen = kind or named or of[0]
            if name == "writing" and chosen != "generation":  # its first column is the text
                roles = {("text" if role == "prompt" else role): column for role, column in roles.items()}
            why = f"kind = {chosen!r} was asked for; {why}" if kind else why
            unused = tuple(c for c in rows.columns if c not in roles.values())
            return Guess(chosen, roles, why, unused)
    there = ", ".join(map(repr, rows.columns))
    raise TaskError(
        f"{rows.place(0)}: the columns {there} do not say {'what the task is' if kind is None else f'which are those of {kind}'}; "
        "name them, such as --column text=COLUMN --column label=COLUMN, or give the columns of another --kind"
    )


class _Columns:
    """The columns of some rows, by what is in them."""

    def __init__(self, rows: Rows, given: dict[str, str]) -> None:
        self.rows, self.given = rows, given
        self.values = {column: [row.get(column) for row in rows] for column in rows.columns}
        for role, column in given.items():
            if role not in _NAMES:
                raise TaskError(f"--column {role}={column}: {role!r} is no role of a column; {nearest(role, _NAMES)}")
            if column not in self.values:
                near = hint(column, self.values) or f"there are {', '.join(map(repr, self.values))}"
                raise TaskError(f"--column {role}={column}: {rows.place(0).file} has no column {column!r}; {near}")

    def named(self, role: str, fits: Callable[[str], bool], *, but: tuple[str, ...] = ()) -> str | None:
        """The column of a role: the one that was given, else one with a name that such columns have."""
        if role in self.given:
            return self.given[role]
        taken = (*but, *self.given.values())
        lower = {column.lower(): column for column in self.values if column not in taken}
        return next((lower[name] for name in _NAMES[role] if name in lower and fits(lower[name])), None)

    def there(self, column: str) -> list[Any]:
        """The values that are not missing."""
        missing = (None, "")
        return [v for v in self.values[column] if v not in missing and not (isinstance(v, float) and math.isnan(v))]

    def lists(self, column: str) -> bool:
        """Whether all values are lists, perhaps written as JSON."""
        values = self.there(column)
        return bool(values) and all(_listed(value) is not None for value in values)

    def texts(self, column: str) -> bool:
        """Whether all values are texts that are no lists or numbers."""
        values = self.there(column)
        return (
            bool(values)
            and all(isinstance(v, str) for v in values)
            and not self.lists(column)
            and not self.numbers(column)
        )

    def numbers(self, column: str) -> bool:
        """Whether all values are numbers, perhaps written as text."""
        values = self.there(column)
        return bool(values) and all(_number(value) is not None for value in values)

    def words(self, column: str) -> float:
        """The mean number of words."""
        values = self.there(column)
        return sum(len(str(value).split()) for value in values) / max(len(values), 1)

    def distinct(self, column: str) -> int:
        """The number of different values."""
        return len({json.dumps(value, default=str, sort_keys=True) for value in self.there(column)})


_Found = tuple[dict[str, str], str, str | None]


def _listed(value: Any) -> list[Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple)) else None


def _number(value: Any) -> float | None:
    try:
        found = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found is not None and math.isfinite(found) else None


def _tagging(seen: _Columns) -> _Found | None:
    def fits(column: str) -> bool:  # in a table both may be written with spaces between
        return seen.lists(column) or column.lower() in ("tokens", "tags", "ner_tags", "pos_tags")

    tokens = seen.named("tokens", fits)
    tags = None if tokens is None else seen.named("tags", fits, but=(tokens,))
    if tokens is None or tags is None:
        return None
    return {"tokens": tokens, "tags": tags}, f"{tokens!r} has lists of words and {tags!r} a tag for each", None


def _answering(seen: _Columns) -> _Found | None:
    found = {role: seen.named(role, seen.texts) for role in ("question", "context")}
    answers = seen.named("answers", lambda _: True)
    if answers is None or None in found.values():
        return None
    roles = {**{role: str(column) for role, column in found.items()}, "answers": answers}
    return roles, "there are a question, a context and answers", None


def _dialogue(seen: _Columns) -> _Found | None:
    messages = seen.named("messages", seen.lists)
    if messages is None:
        return None
    return {"messages": messages}, f"{messages!r} has conversations, lists of messages", "generation"


def _choosing(seen: _Columns) -> _Found | None:
    choices = seen.named("choices", seen.lists)
    label = None if choices is None else seen.named("label", lambda column: not seen.lists(column), but=(choices,))
    if choices is None or label is None:
        return None
    texts = _texts(seen, (choices, label))
    return (
        (
            {**texts, "choices": choices, "label": label},
            f"{choices!r} has a list of choices and {label!r} says which is right",
            None,
        )
        if texts
        else None
    )


def _prompted(seen: _Columns) -> _Found | None:
    """Prompts with what is to be written, known by the columns' names alone."""
    prompt = seen.named("prompt", seen.texts)
    target = None if prompt is None else seen.named("target", lambda _: True, but=(prompt,))
    if prompt is None or target is None:
        return None
    return {"prompt": prompt, "target": target}, f"{prompt!r} is a prompt and {target!r} the text to write", None


def _images(seen: _Columns) -> _Found | None:
    def pictures(column: str) -> bool:
        return all(
            isinstance(v, str) and v.lower().endswith((".png", ".jpg", ".jpeg", ".webp", ".bmp"))
            for v in seen.there(column)
        )

    image = seen.named("image", pictures)
    label = None if image is None else seen.named("label", lambda _: True, but=(image,))
    if image is None or label is None:
        return None
    return {"image": image, "label": label}, f"{image!r} has paths of images", None


def _labelled(seen: _Columns) -> _Found | None:
    """Texts with a label, several labels or a number."""
    label = seen.named("label", lambda column: _is_label(seen, column)) or _few_values(seen)
    if label is None:
        return None
    roles = {**_texts(seen, (label,)), "label": label}
    if "text" not in roles:
        return None
    many = seen.distinct(label)
    if seen.lists(label):
        return roles, f"{label!r} has lists of labels", "multi_label"
    numbers = [_number(value) for value in seen.there(label)] if seen.numbers(label) else []
    if not numbers:
        return roles, f"{label!r} has {many} different names", "classification"
    whole = all(float(n or 0).is_integer() for n in numbers)
    if whole and many <= _MOST_CLASSES:
        why = f"{label!r} has {many} different whole numbers, taken for classes (if they are quantities: --kind regression)"
        return roles, why, "classification"
    return (
        roles,
        f"{label!r} has {'numbers' if whole else 'numbers with a fraction'}, {many} different ones",
        "regression",
    )


def _is_label(seen: _Columns, column: str) -> bool:
    """Whether a column may be that of the labels: not a different text in nearly every row."""
    if seen.lists(column) or seen.numbers(column):
        return True
    return seen.words(column) < 5 and seen.distinct(column) <= max(10, len(seen.there(column)) // 2)


def _few_values(seen: _Columns) -> str | None:
    """The column with the fewest different values, two or more, that are not different in nearly every row."""
    counts = {}
    for column in seen.values:
        if column in seen.given.values() or is_index(column) or _IDENTITY.fullmatch(column):
            continue
        few = 2 <= seen.distinct(column) <= min(50, len(seen.there(column)) // 3)
        if few and seen.words(column) < 5:
            counts[column] = seen.distinct(column)
    return min(counts, key=lambda column: counts[column], default=None)


def _written(seen: _Columns) -> _Found | None:
    """Two columns of texts, of which the second is written for the first."""
    target = seen.named("target", lambda _: True)
    texts = _texts(seen, () if target is None else (target,))
    if target is None and "pair" in texts:
        target = texts.pop("pair")
    if target is None or "text" not in texts:
        return None
    why = f"no column is a label; {target!r} is taken for the text to write for {texts['text']!r}"
    return {"prompt": seen.given.get("prompt", texts["text"]), "target": target}, why, None


def _texts(seen: _Columns, but: tuple[str, ...]) -> dict[str, str]:
    """The column of the text and, where there is one, that of a second text."""
    text = seen.named("text", seen.texts, but=but)
    pair = seen.named("pair", seen.texts, but=(*but, text or ""))
    able = [
        c for c in seen.values if c not in (*but, *seen.given.values()) and seen.texts(c) and not _IDENTITY.fullmatch(c)
    ]
    long = [c for c in able if seen.words(c) >= 3 or seen.distinct(c) > max(10, len(seen.there(c)) // 2)]
    if text is None:
        text = next((c for c in long or able if c != pair), None)
    if text is None:
        return {}
    others = [c for c in long if c != text]
    if pair is None and len(others) == 1 and "text" not in seen.given:
        pair = others[0]
    return {"text": text, **({} if pair is None else {"pair": pair})}


_FINDERS: tuple[tuple[str, Callable[[_Columns], _Found | None]], ...] = (
    ("tagging", _tagging),
    ("question_answering", _answering),
    ("generation", _dialogue),
    ("multiple_choice", _choosing),
    ("writing", _prompted),
    ("image_classification", _images),
    ("labelled", _labelled),
    ("writing", _written),
)
# The kinds that a finder serves, where they are not the one of its name.
_SERVED = {"labelled": ("classification", "regression", "multi_label"), "writing": ("generation", "text_to_text")}
