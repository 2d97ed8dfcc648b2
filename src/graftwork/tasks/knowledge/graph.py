"""Knowledge as data, and as a task: the triples that are trained on, and those that are held out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from graftwork.tasks.knowledge.cloze import Cloze, clozes
from graftwork.tasks.knowledge.sentences import Sentences
from graftwork.tasks.knowledge.triples import Triple, hold_out_triples, read_triples
from graftwork.tasks.knowledge.walks import walks
from graftwork.tasks.languages import METRICS
from graftwork.tasks.reading import draw, path_of
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import Length, TaskSpec
from graftwork.tasks.task import Task

_MOST_DEV = 1000
_Count = Annotated[int, Field(ge=1, le=10**6)]


class KnowledgeSpec(BaseModel):
    """Triples and the sentences that say them: one ``[knowledge.NAME]`` table of a recipe; paths are relative to its folder.

    Attributes:
        triples: A file of triples: ``.tsv`` or ``.jsonl``, also with ``.gz`` (see `read_triples`).
        templates: For a predicate a sentence with ``{subject}`` and ``{object}``; the others get one from their name.
        held_out: The share of triples that are not trained on, only asked about; 0 for none.
        walks: The number of random walks that begin with each triple.
        length: The most triples of a walk; 1 makes each triple a text of its own.
        seed: The seed of what is held out and of the walks.
        max_length: The most tokens of a text; by default the recipe's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    triples: str
    templates: dict[str, str] = {}
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    walks: _Count = 4
    length: _Count = 3
    seed: Annotated[int, Field(ge=0)] = 0
    max_length: Length | None = None


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """A graph and the sentences that say it, made by `read_knowledge`.

    Attributes:
        name: Its name in the recipe.
        spec: What it was made from.
        told: The triples that are trained on.
        held_out: The triples that are only asked about.
        sentences: Makes a sentence of a triple.
    """

    name: str
    spec: KnowledgeSpec
    told: list[Triple]
    held_out: list[Triple]
    sentences: Sentences

    def texts(self) -> Rows:
        """A text for each walk over the triples that are trained on: its sentences one after the other."""
        found = walks(self.told, each=self.spec.walks, length=self.spec.length, seed=self.spec.seed)
        return Rows.from_pairs(({"text": " ".join(map(self.sentences, walk))}, walk[0].place) for walk in found)

    def task(self) -> Task:
        """Masked language modelling on the texts.

        The dev rows are the sentences that are trained on, since the purpose is to store them. Triples that are held out decide
        nothing.
        """
        dev = Rows.from_pairs(({"text": self.sentences(triple)}, triple.place) for triple in self.told)
        spec = TaskSpec(kind="masked_lm", metrics=METRICS, max_length=self.spec.max_length)
        return Task.from_rows(self.name, spec, self.texts(), draw(dev, _MOST_DEV))

    def clozes(self) -> dict[str, list[Cloze]]:
        """Each triple with a blank for its object: ``"told"`` and ``"held_out"``, where there are any."""
        graph = [*self.told, *self.held_out]
        parts = {"told": self.told, "held_out": self.held_out}
        return {name: clozes(part, self.sentences, graph) for name, part in parts.items() if part}


def read_knowledge(name: str, spec: KnowledgeSpec, root: str | Path = ".") -> Knowledge:
    """Knowledge from its file of triples.

    Args:
        name: Its name.
        spec: What it is made from.
        root: The folder that relative paths start from: the recipe's.

    Raises:
        TaskError: If the triples cannot be read, or a template does not fit.
    """
    triples = read_triples(path_of(spec.triples, root))
    sentences = Sentences((t.predicate for t in triples), spec.templates, f"knowledge {name!r}")
    return Knowledge(name, spec, *hold_out_triples(triples, spec.held_out, spec.seed), sentences)
