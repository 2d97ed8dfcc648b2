"""A language as a task: masked language modelling on plain text (MAD-X, Pfeiffer et al. 2020, arXiv:2005.00052)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from graftwork.tasks.reading import path_of, read_texts
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import LISTED, Length, Positive, TaskSpec
from graftwork.tasks.task import Task

# the likelihood still changes where the likeliest word stays the right one
METRICS = ("log_likelihood", "token_accuracy")


class LanguageSpec(BaseModel):
    """Text of a language: one ``[languages.NAME]`` table of a recipe; paths are relative to its folder.

    Attributes:
        text: A file of text, or several: ``.txt`` (also with ``.gz``), where every line that is not empty is a text, or rows
            with a column ``text``. A text that is longer than ``max_length`` is trained on in pieces.
        dev: A file that decides which epoch is the best. Where there is none, a share of ``text`` is held out.
        dev_share: That share.
        rows: The most texts; more are left out by one fixed draw.
        max_length: The most tokens of a piece; by default the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[tuple[str, ...], Field(min_length=1), LISTED]
    dev: str | None = None
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    rows: Positive | None = None
    max_length: Length | None = None


def language_task(name: str, spec: LanguageSpec, root: str | Path = ".") -> Task:
    """Masked language modelling on the texts of a language; which words are masked is drawn anew every epoch.

    Args:
        name: The language's name.
        spec: Its files and limits.
        root: The folder that relative paths start from: the recipe's.

    Raises:
        TaskError: If a file cannot be read, or has no texts.
    """
    texts = Rows.from_pairs(pair for file in spec.text for pair in read_texts(path_of(file, root)).placed())
    dev = None if spec.dev is None else read_texts(path_of(spec.dev, root))
    masked = TaskSpec(
        kind="masked_lm", metrics=METRICS, rows=spec.rows, max_length=spec.max_length, dev_share=spec.dev_share
    )
    return Task.from_rows(name, masked, texts, dev)
