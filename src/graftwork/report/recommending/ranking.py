"""From reasons to a ranked choice, and to what cannot be told.

What is out stands last. Where the user has measured two candidates or more on the target, those come first, and a candidate's
rank is one more than the number of those that are clearly above it; there, facts of the literature about how good a method is
give way. All others follow by their votes: a reason for counts as much as a reason against. Those of one rank are not told apart;
they stand by their means, where they were measured, and by the fewest weights, which is an order and no judgement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from graftwork.report.recommending import rules_of_data, rules_of_needs
from graftwork.report.recommending.base import Base
from graftwork.report.recommending.candidates import Candidate
from graftwork.report.recommending.case import Case
from graftwork.report.recommending.evidence import Reason
from graftwork.report.recommending.measured import Figure, of_task
from graftwork.report.recommending.needs import Needs

RULES = (*rules_of_needs.RULES, *rules_of_data.RULES)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One candidate with its place.

    Attributes:
        candidate: What it is.
        rank: Its rank, shared with what it is not told apart from; ``None`` where it is out.
        weights: Of one task on the base, heads aside; ``None`` where they could not be counted.
        figure: The user's own figure, where there is one.
        reasons: Why.
    """

    candidate: Candidate
    rank: int | None
    weights: int | None
    figure: Figure | None
    reasons: tuple[Reason, ...]

    @property
    def votes(self) -> int:
        """Reasons for it less reasons against it."""
        return sum(reason.vote for reason in self.reasons)


@dataclasses.dataclass(frozen=True)
class Advice:
    """A ranked choice.

    Attributes:
        needs: What it was made for.
        base: The base.
        choices: The best first, what is out last.
        conclusion: What stands first and by what, where one does; else empty.
        unclear: What there is not enough to tell about, in sentences.
    """

    needs: Needs
    base: Base
    choices: tuple[Choice, ...]
    conclusion: str
    unclear: tuple[str, ...]

    @property
    def leaders(self) -> tuple[Choice, ...]:
        """Those of the first rank."""
        return tuple(choice for choice in self.choices if choice.rank == 1)


def recommend(needs: Needs, base: Base, figures: Sequence[Figure] = ()) -> Advice:
    """The choice for one target.

    Args:
        needs: What is needed.
        base: The base, counted.
        figures: The user's own, of any task.
    """
    case = Case(needs, base, of_task(figures, needs.target))
    reasons = [reason for rule in RULES for reason in rule(case)]
    open_choices = [_choice(case, candidate, reasons) for candidate in case.candidates]
    choices = tuple(_ranked(open_choices, case))
    return Advice(needs, base, choices, _conclusion(choices), tuple(_unclear(choices, case)))


def _choice(case: Case, candidate: Candidate, reasons: Sequence[Reason]) -> Choice:
    figure = case.figures.get(candidate.key)
    mine = [reason for reason in reasons if reason.method == candidate.key]
    if case.compared and figure is not None:
        mine = [reason for reason in mine if not _gives_way(reason)]
    return Choice(candidate, None, case.weights(candidate.key), figure, tuple(mine))


def _gives_way(reason: Reason) -> bool:
    """Whether a reason speaks of quality by the literature alone."""
    return reason.about == "quality" and all(one.basis == "literature" for one in reason.evidence)


def _ranked(choices: Sequence[Choice], case: Case) -> list[Choice]:
    out = [choice for choice in choices if any(reason.stance == "out" for reason in choice.reasons)]
    left = [choice for choice in choices if choice not in out]
    first = {c.candidate.key: c.figure for c in left if c.figure is not None} if case.compared else {}
    ranks = {
        choice.candidate.key: _by_measure(choice.figure, first)
        if choice.candidate.key in first and choice.figure is not None
        else 1 + len(first) + sum(o.votes > choice.votes for o in left if o.candidate.key not in first)
        for choice in left
    }
    placed = [dataclasses.replace(choice, rank=ranks[choice.candidate.key]) for choice in left]
    return [*sorted(placed, key=_order), *out]


def _by_measure(figure: Figure, first: Mapping[str, Figure]) -> int:
    return 1 + sum(other.clearly_above(figure) for other in first.values())


def _order(choice: Choice) -> tuple[float, float, float]:
    mean = 0.0 if choice.figure is None else choice.figure.mean
    return choice.rank or 0, -mean, float("inf") if choice.weights is None else choice.weights


def _conclusion(choices: Sequence[Choice]) -> str:
    """What stands first, and by whose figures."""
    leaders = [choice for choice in choices if choice.rank == 1]
    if len(leaders) != 1:
        return ""
    (leader,) = leaders
    own = leader.figure is not None and any(r.stance == "for" and r.rule == "own_figures" for r in leader.reasons)
    by = (
        "your own figures"
        if own
        else "published figures and counts, of other bases and data; figures of your own would decide"
    )
    mind = "; mind what speaks against it" if any(reason.stance == "against" for reason in leader.reasons) else ""
    return f"{leader.candidate.label} stands first, by {by}{mind}"


def _unclear(choices: Sequence[Choice], case: Case) -> list[str]:
    """What there is not enough to tell about."""
    leaders = [choice for choice in choices if choice.rank == 1]
    found = []
    if len(leaders) > 1:
        names = ", ".join(choice.candidate.label for choice in leaders)
        found.append(f"not enough to tell between {names}: {_why(leaders, case)}")
    if len(case.figures) == 1:
        found.append("one method is measured on the target: it takes two to compare, so the literature decides")
    other = sorted({figure.base for figure in case.figures.values()} - {case.base.name})
    if other:
        found.append(f"the figures were measured on {', '.join(other)}, the weights are counted on {case.base.name}")
    return found


def _why(leaders: Sequence[Choice], case: Case) -> str:
    if not case.compared:
        return "no reason separates them; the fewest weights stand first"
    alone = [choice.candidate.label for choice in leaders if choice.figure is not None and choice.figure.sd is None]
    if alone:
        return f"{', '.join(alone)} measured with one seed, which says nothing of the noise; repeat with more seeds"
    return "their means are no further apart than their standard deviations; the higher mean stands first"
