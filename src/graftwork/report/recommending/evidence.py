"""A reason and what it rests on: a figure of the user's own run, a count, a fact of the literature, or what a method is."""

from __future__ import annotations

import dataclasses
from typing import Literal

from graftwork.report.recommending.facts import FACTS, Fact

Basis = Literal["measured here", "counted", "literature", "as given", "by definition"]
# `out` takes a method off the list. `meets` (a limit) and `note` are told and move nothing.
Stance = Literal["for", "against", "out", "meets", "note"]
# Whether a reason is about what was asked for, or about how good the method is: figures of one's own take the place of the latter.
About = Literal["need", "quality"]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a reason rests on.

    Attributes:
        basis: Of what sort it is.
        source: Of a measurement the run, base and seeds; of literature the paper, base and data; else empty.
        says: What stands there, empty where the reason says all of it.
        sure: Whether it may move a rank: not so for what is only recalled.
    """

    basis: Basis
    source: str = ""
    says: str = ""
    sure: bool = True

    def __str__(self) -> str:
        where = f"{self.basis}: {self.source}" if self.source else self.basis
        return f"{self.says} [{where}]" if self.says else f"[{where}]"


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a method is chosen or not.

    Attributes:
        method: The candidate's key.
        rule: The rule that gave it.
        stance: What it does.
        about: Of a need, or of the quality.
        text: In words; figures of the literature are in the evidence.
        evidence: What it rests on.
    """

    method: str
    rule: str
    stance: Stance
    about: About
    text: str
    evidence: tuple[Evidence, ...]

    def __str__(self) -> str:
        between = ": " if self.evidence[0].says else " "
        return f"{self.text}{between}{'; '.join(map(str, self.evidence))}"

    @property
    def vote(self) -> int:
        """What it adds to a method's standing."""
        return {"for": 1, "against": -1}.get(self.stance, 0)


DEFINITION = Evidence("by definition")
GIVEN = Evidence("as given")


def literature(*names: str) -> tuple[Evidence, ...]:
    """Facts as evidence."""
    return tuple(from_fact(FACTS[name]) for name in names)


def from_fact(fact: Fact) -> Evidence:
    """One fact as evidence."""
    return Evidence("literature", fact.source, fact.text, fact.knowledge != "recalled")
