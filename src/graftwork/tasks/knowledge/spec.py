"""What knowledge is, as data: one ``[knowledge.NAME]`` table of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from graftwork.tasks.spec import Length

Count = Annotated[int, Field(ge=1, le=10**6)]


class KnowledgeSpec(BaseModel):
    """Triples and the sentences that say them; paths are relative to the recipe's folder.

    Attributes:
        triples: A file of triples: ``.tsv`` or ``.jsonl``, also with ``.gz`` (see `read_triples`).
        templates: For a predicate a sentence with ``{subject}`` and ``{object}``; what has none gets one from its name.
        held_out: The share of triples that are not told and only asked about; 0 for none.
        walks: How many random walks begin with each triple.
        length: How many triples a walk has at most; 1 tells each by itself.
        seed: Of what is held out and of the walks.
        max_length: In tokens; by default the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    triples: str
    templates: dict[str, str] = {}
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    walks: Count = 4
    length: Count = 3
    seed: Annotated[int, Field(ge=0)] = 0
    max_length: Length | None = None
