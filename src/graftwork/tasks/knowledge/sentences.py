"""A sentence for a triple, by the template of its predicate."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from graftwork.errors import TaskError
from graftwork.options import nearest
from graftwork.tasks.knowledge.triples import Triple

SUBJECT, OBJECT = "{subject}", "{object}"

_AUXILIARIES = frozenset("is are was were has have had can could may must will would does did".split())
_PREPOSITIONS = frozenset("about after as at before by for from in into of on over to under with".split())
# words in -s that are no verbs of the third person
_NOUNS = re.compile(r"(ss|us|is|ness)$")


class Sentences:
    """Makes a sentence of a triple.

    Args:
        predicates: The predicates of the graph.
        templates: For some of them a sentence with ``{subject}`` and ``{object}``; the others get `default_template`.
        where: The owner of the templates, for messages.

    Raises:
        TaskError: If a template is for no predicate of the graph, or lacks one of the two.
    """

    def __init__(
        self, predicates: Iterable[str], templates: Mapping[str, str] | None = None, where: str = "templates"
    ) -> None:
        known = dict.fromkeys(predicates)
        for predicate, template in (templates or {}).items():
            _check(predicate, template, known, where)
        self.templates = {name: (templates or {}).get(name) or default_template(name) for name in known}

    def __call__(self, triple: Triple) -> str:
        """The sentence."""
        before, after = self.around(triple)
        return f"{before}{triple.object}{after}"

    def around(self, triple: Triple) -> tuple[str, str]:
        """The parts of the sentence before and after the object."""
        if triple.predicate not in self.templates:
            raise TaskError(
                f"{triple.place}: no template for the predicate {triple.predicate!r}; "
                f"{nearest(triple.predicate, self.templates)}"
            )
        before, after = self.templates[triple.predicate].split(OBJECT)
        return before.replace(SUBJECT, triple.subject), after.replace(SUBJECT, triple.subject)


def default_template(predicate: str) -> str:
    """A sentence from a predicate's name.

    A name that begins with a verb is put between subject and object, and so is one that ends in a preposition, after "is"; any
    other name is a property.

        lives_in → {subject} lives in {object}.        capitalOf → {subject} is capital of {object}.
        colour → The colour of {subject} is {object}.
    """
    name = predicate.strip().rstrip("/").rsplit("/", 1)[-1]
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = re.sub(r"[\W_]+", " ", spaced).lower().split() or [predicate]
    phrase = " ".join(words)
    if words[0] in _AUXILIARIES or (words[0].endswith("s") and not _NOUNS.search(words[0])):
        return f"{SUBJECT} {phrase} {OBJECT}."
    if words[-1] in _PREPOSITIONS:
        return f"{SUBJECT} is {phrase} {OBJECT}."
    return f"The {phrase} of {SUBJECT} is {OBJECT}."


def _check(predicate: str, template: str, known: Collection[str], where: str) -> None:
    if predicate not in known:
        raise TaskError(f"{where}: no triple has the predicate {predicate!r}; {nearest(predicate, known)}")
    if template.count(SUBJECT) < 1 or template.count(OBJECT) != 1:
        raise TaskError(
            f"{where}: the template of {predicate!r} is {template!r}; it must have {SUBJECT}, and {OBJECT} once, such as "
            f"{default_template(predicate)!r}"
        )
