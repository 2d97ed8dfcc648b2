"""The kinds of tasks, one file each: importing this registers them."""

from graftwork.tasks.kind import (  # noqa: F401
    causal_lm,
    classification,
    generation,
    image_classification,
    masked_lm,
    multi_label,
    multiple_choice,
    question_answering,
    regression,
    tagging,
    text_to_text,
)
from graftwork.tasks.kind.contract import Feature, Kind, find_kind, kinds, register

__all__ = ["Feature", "Kind", "find_kind", "kinds", "register"]
