"""A language as a task: plain text, and the words behind masks (MAD-X, Pfeiffer et al. 2020, arXiv:2005.00052)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from graftwork.tasks.reading import path_of, read_texts
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import Length, Positive, TaskSpec
from graftwork.tasks.task import Task

# the likelihood falls also where the likeliest word stays the right one
METRICS = ("log_likelihood", "token_accuracy")


class LanguageSpec(BaseModel):
    """Text of a language: one ``[languages.NAME]`` table of a recipe; paths are relative to its folder.

    Attributes:
        text: A file of text, or several: ``.txt`` (also with ``.gz``), where every line that is not empty is a text, or rows
            with a column ``text``. What is longer than ``max_length`` is learnt in pieces.
        dev: A file that decides which epoch is the best. Where there is none, a share of ``text`` is held out.
        dev_share: That share.
        rows: At most so many texts, drawn once and for all.
        max_length: In tokens; by default the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[tuple[str, ...], Field(min_length=1)]
    dev: str | None = None
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    rows: Positive | None = None
    max_length: Length | None = None

    @field_validator("text", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


def language_task(name: str, spec: LanguageSpec, root: str | Path = ".") -> Task:
    """Masked language modelling on the texts of a language; which words are masked is drawn anew every epoch.

    Args:
        name: The language's.
        spec: What it is.
        root: What relative paths are relative to: the recipe's folder.

    Raises:
        TaskError: If a file cannot be read, or has no texts.
    """
    files = [read_texts(path_of(file, root)) for file in spec.text]
    texts = Rows([row for rows in files for row in rows], [place for rows in files for _, place in rows.placed()])
    dev = None if spec.dev is None else read_texts(path_of(spec.dev, root))
    asked = TaskSpec(
        kind="masked_lm", metrics=METRICS, rows=spec.rows, max_length=spec.max_length, dev_share=spec.dev_share
    )
    return Task.from_rows(name, asked, texts, dev)
