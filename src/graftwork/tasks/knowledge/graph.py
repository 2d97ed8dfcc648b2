"""Knowledge that is read: what is trained on, what is held out, and the task of learning it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from graftwork.tasks.knowledge.cloze import Cloze, clozes
from graftwork.tasks.knowledge.sentences import Sentences
from graftwork.tasks.knowledge.spec import KnowledgeSpec
from graftwork.tasks.knowledge.triples import Triple, hold_out_triples, read_triples
from graftwork.tasks.knowledge.walks import walks
from graftwork.tasks.reading import draw, path_of
from graftwork.tasks.rows import Rows
from graftwork.tasks.spec import TaskSpec
from graftwork.tasks.task import Task

# the likelihood falls also where the likeliest word stays the right one
METRICS = ("log_likelihood", "token_accuracy")
_MOST_DEV = 1000


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """A graph and the sentences that say it, made by `read_knowledge`.

    Attributes:
        name: What the recipe calls it.
        spec: What it was made by.
        told: The triples that are learnt.
        held_out: Those that are only asked about.
        sentences: Makes a sentence of a triple.
    """

    name: str
    spec: KnowledgeSpec
    told: list[Triple]
    held_out: list[Triple]
    sentences: Sentences

    def texts(self) -> Rows:
        """A text for each walk over what is trained on: its sentences one after the other."""
        found = walks(self.told, each=self.spec.walks, length=self.spec.length, seed=self.spec.seed)
        return Rows(
            [{"text": " ".join(map(self.sentences, walk))} for walk in found], [walk[0].place for walk in found]
        )

    def task(self) -> Task:
        """Masked language modelling on the texts.

        The best epoch is the one that knows best what it was trained on, sentence by sentence: to store it is the purpose. What is
        held out decides nothing.
        """
        told = Rows([{"text": self.sentences(triple)} for triple in self.told], [t.place for t in self.told])
        spec = TaskSpec(kind="masked_lm", metrics=METRICS, max_length=self.spec.max_length)
        return Task.from_rows(self.name, spec, self.texts(), draw(told, _MOST_DEV))

    def clozes(self) -> dict[str, list[Cloze]]:
        """Each triple with a blank for its object: ``"told"`` and ``"held_out"``, where there are any."""
        graph = [*self.told, *self.held_out]
        parts = {"told": self.told, "held_out": self.held_out}
        return {name: clozes(part, self.sentences, graph) for name, part in parts.items() if part}


def read_knowledge(name: str, spec: KnowledgeSpec, root: str | Path = ".") -> Knowledge:
    """Read a graph.

    Args:
        name: What it is called.
        spec: What it is.
        root: What relative paths are relative to: the recipe's folder.

    Raises:
        TaskError: If the triples cannot be read, or a template does not fit.
    """
    triples = read_triples(path_of(spec.triples, root))
    sentences = Sentences((t.predicate for t in triples), spec.templates, f"knowledge {name!r}")
    told, apart = hold_out_triples(triples, spec.held_out, spec.seed)
    return Knowledge(name, spec, told, apart, sentences)
