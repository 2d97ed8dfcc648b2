"""What a rule is given: the needs, the base, the user's own figures for the target, and what there is to choose from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from graftwork.report.recommending.base import Base
from graftwork.report.recommending.candidates import CANDIDATES, Candidate, Shape
from graftwork.report.recommending.evidence import About, Evidence, Reason, Stance
from graftwork.report.recommending.measured import CONTROLS, Figure
from graftwork.report.recommending.needs import Needs


@dataclasses.dataclass(frozen=True)
class Case:
    """One choice.

    Attributes:
        needs: What it is made for.
        base: The base, counted.
        figures: The user's own figures for the target, by method.
    """

    needs: Needs
    base: Base
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Those of the list, and what was measured besides."""
        known = {candidate.key for candidate in CANDIDATES}
        more = [f for key, f in self.figures.items() if key not in known and key not in CONTROLS]
        return (*CANDIDATES, *(_like(figure) for figure in more))

    @property
    def compared(self) -> bool:
        """Whether the user has measured two candidates or more on the target."""
        return len([key for key in self.figures if key not in CONTROLS]) > 1

    def shaped(self, *shapes: Shape) -> Iterator[Candidate]:
        """The candidates of some shapes."""
        return (candidate for candidate in self.candidates if candidate.shape in shapes)

    def weights(self, key: str) -> int | None:
        """The weights of one task on this base; of what was measured besides, those that were trained."""
        if key in self.base.counts:
            return self.base.counts[key].a_task(self.needs.many)
        return self.figures[key].weights if key in self.figures else None


Rule = Callable[[Case], Iterator[Reason]]


def _like(figure: Figure) -> Candidate:
    """The candidate of what was measured and is not on the list, with the shape of the same method with other options."""
    name = figure.method.partition(" #")[0]
    same = next((candidate for candidate in CANDIDATES if candidate.key == name), None)
    if same is None:
        return Candidate(figure.method, figure.label, "measured", in_sequence=False)
    return dataclasses.replace(same, key=figure.method, label=figure.label)


def needed(rule: str, method: str, stance: Stance, text: str, *evidence: Evidence) -> Reason:
    """A reason about what was asked for."""
    return _reason(rule, method, stance, "need", text, evidence)


def expected(rule: str, method: str, stance: Stance, text: str, *evidence: Evidence) -> Reason:
    """A reason about how good a method is."""
    return _reason(rule, method, stance, "quality", text, evidence)


def _reason(rule: str, method: str, stance: Stance, about: About, text: str, evidence: tuple[Evidence, ...]) -> Reason:
    # what is only recalled is told, and moves nothing
    sure = all(one.sure for one in evidence)
    return Reason(method, rule, stance if sure else "note", about, text, evidence)
