"""Applying the rules of `rules.toml` to every candidate: a ranked choice with reasons, and what is unclear.

What is out is last. If the user has measured two candidates or more on the target, those are first, and a candidate's rank is
one more than the number of those that are clearly above it; their reasons from the literature about quality are dropped. All
others follow by their votes: reasons for less reasons against. Those of one rank are not told apart; they are listed by their
means, if measured, and by the fewest weights, which is an order and no judgement.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.report.recommending.base import CANDIDATES, KEYS, Base, Candidate, Count
from graftwork.report.recommending.measured import CONTROLS, Evidence, Figure, Needs
from graftwork.tasks import kinds

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLES = tomllib.loads(Path(__file__).with_name("rules.toml").read_bytes().decode())
LITERATURE = tomllib.loads(Path(__file__).with_name("facts.toml").read_bytes().decode())
RULES = [(rule, about, table) for rule in _TABLES for about in _TABLES[rule] for table in _TABLES[rule][about]]
BOUNDS = LITERATURE["bounds"]
_HOW = {"found": "", "computed": "; computed from its figures", "recalled": "; recalled, not re-read"}
FACTS = {
    name: Evidence("literature", f"{paper}; {on}{_HOW[known]}", says, known != "recalled")
    for paper, bases in LITERATURE["facts"].items()
    for on, by_knowledge in bases.items()
    for known, facts in by_knowledge.items()
    for name, says in facts.items()
}
# The time of inference relative to the bare model: with an adapter (lowest, highest), and with a fusion of the timed size.
LOW, HIGH, FUSED = (1 / (1 - percent / 100) for percent in BOUNDS["slower"])


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a method is chosen or not, about a ``need`` or its ``quality``; only the stances for, against and out change its rank."""

    rule: str
    stance: str
    about: str
    text: str
    evidence: tuple[Evidence, ...]

    def __str__(self) -> str:
        return f"{self.text}{':' if self.evidence[0].says else ''} {'; '.join(map(str, self.evidence))}"


@dataclasses.dataclass(frozen=True)
class Choice:
    """A candidate with its rank (none: out), weights a task (none: not counted), figure (none: not measured) and reasons."""

    candidate: Candidate
    rank: int | None
    weights: int | None
    figure: Figure | None
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        return self.candidate.label

    @property
    def stances(self) -> list[str]:
        """The stances of its reasons."""
        return [reason.stance for reason in self.reasons]

    @property
    def votes(self) -> int:
        """The number of reasons for it less that of reasons against it."""
        return self.stances.count("for") - self.stances.count("against")


@dataclasses.dataclass(frozen=True)
class Advice:
    """A ranked choice for some needs and a base: the best first and what is out last, the conclusion, and what is unclear."""

    needs: Needs
    base: Base
    choices: tuple[Choice, ...]
    conclusion: str
    unclear: tuple[str, ...]


def recommend(needs: Needs, base: Base, figures: Sequence[Figure] = ()) -> Advice:
    """The ranked choice for the target of the needs, from the counts on a base and the user's own figures of any task."""
    mine = {figure.method: figure for figure in figures if figure.task == needs.target}
    compared = len(mine.keys() - CONTROLS) > 1
    unlisted = [_like(figure) for key, figure in mine.items() if key not in (*KEYS, *CONTROLS)]
    choices = [_choice(candidate, needs, base, mine, compared) for candidate in (*CANDIDATES, *unlisted)]
    left = [choice for choice in choices if "out" not in choice.stances]
    first = [choice.figure for choice in left if compared and choice.figure is not None]
    after = [choice.votes for choice in left if choice.figure not in first]
    ranked = []
    for choice in left:
        if choice.figure in first:
            above = sum(figure.clearly_above(choice.figure) for figure in first)
        else:
            above = len(first) + sum(votes > choice.votes for votes in after)
        ranked.append(dataclasses.replace(choice, rank=1 + above))
    ranked.sort(key=lambda c: (c.rank or 0, -c.figure.mean if c.figure else 0.0, c.weights is None, c.weights or 0))
    leaders = [choice for choice in ranked if choice.rank == 1]
    unclear = []
    if len(leaders) > 1:
        unclear.append(f"not enough to tell between {', '.join(map(str, leaders))}: {_why(leaders, compared)}")
    if len(mine) == 1:
        unclear.append("one method is measured on the target: it takes two to compare, so the literature decides")
    if other := sorted({figure.base for figure in mine.values()} - {base.name}):
        unclear.append(f"the figures were measured on {', '.join(other)}, the weights are counted on {base.name}")
    ranked += [choice for choice in choices if choice not in left]
    return Advice(needs, base, tuple(ranked), _conclusion(leaders), tuple(unclear))


def _like(figure: Figure) -> Candidate:
    """The candidate of a measured method that is not listed; with the shape of the same method with other options, if any."""
    other = Candidate("", "", "measured", in_sequence=False)
    same = next((one for one in CANDIDATES if one.key == figure.method.partition(" #")[0]), other)
    return dataclasses.replace(same, key=figure.method, label=figure.label)


def _choice(candidate: Candidate, needs: Needs, base: Base, figures: Mapping[str, Figure], compared: bool) -> Choice:
    figure, count = figures.get(candidate.key), base.counts.get(candidate.key)
    evidence = {**FACTS, "definition": Evidence("by definition"), "given": Evidence("as given")}
    evidence |= {control: figures[control].evidence for control in CONTROLS if control in figures}
    evidence |= {"counted": Evidence("counted", f"on {base.name}")} | ({"measured": figure.evidence} if figure else {})
    if count is None:  # measured and not listed: the weights that were trained
        count, evidence["counted"] = Count(figures[candidate.key].weights), evidence["measured"]
    weights, limit = count.a_task(needs.many), needs.weights_a_task
    values = {**vars(candidate), **vars(count), **_of_needs(needs), **_of_figures(figure, figures, needs.latency)}
    values |= {"base": base.name, "weights": weights, "limit": limit, "within": limit and (weights or 0) <= limit}
    holds = {candidate.shape, *(name if value else f"not_{name}" for name, value in values.items())}
    holds |= base.counts.keys() & {candidate.key}  # a method of the user's own may be called like a condition
    reasons = [*_reasons(holds, values, evidence)]
    if figure is not None and compared:  # the user's figures replace the literature on quality
        reasons = [r for r in reasons if r.about == "need" or any(one.basis != "literature" for one in r.evidence)]
    return Choice(candidate, None, weights, figure, tuple(reasons))


def _reasons(holds: set[str], values: Mapping[str, Any], evidence: Mapping[str, Evidence]) -> Iterator[Reason]:
    """The reasons of a candidate: from each table of the rules the first line whose conditions all hold."""
    for name, about, table in RULES:
        for when, (stance, text, *grounds) in table.items():
            if all(holds & {*condition.split("|")} for condition in when.split()):
                found = tuple(evidence[one] for one in grounds)
                sure = all(one.sure for one in found)  # a fact that is only recalled is shown, and changes no rank
                yield Reason(name, stance if sure else "note", about, text.format(**values), found)
                break


def _of_needs(needs: Needs) -> dict[str, Any]:
    rows, small, large, smallest = needs.rows, BOUNDS["small"], BOUNDS["large"], BOUNDS["smallest"]
    which = f"more than {large:,d}" if rows > large else f"{small:,d} or more"
    which = f"fewer than {small:,d}" if rows < small else which
    size = f"{needs.target} has {rows:,d} rows, {which} (a bin of {BOUNDS['paper']})"
    generates = needs.kind is not None and kinds[needs.kind].generates
    values = {**vars(needs), "rows": rows, "size": size, "generates": generates, "larger": ", ".join(needs.larger)}
    values |= {"small": rows < small, "large": rows > large, "hardly_any": rows < smallest, "smallest": smallest}
    values |= {"pool": needs.pool, "many": needs.many > 1}
    if needs.latency is not None:
        values |= {"under_adapter": needs.latency < LOW, "over_adapter": needs.latency >= HIGH}
        values["under_fusion"] = needs.latency < FUSED and needs.pool >= BOUNDS["timed_pool"]
        values["over_fusion"] = needs.latency >= FUSED and needs.pool <= BOUNDS["timed_pool"]
    return values


def _of_figures(figure: Figure | None, figures: Mapping[str, Figure], latency: float | None) -> dict[str, Any]:
    if figure is None:
        return {}
    others = [other for key, other in figures.items() if key not in CONTROLS]
    below = ", ".join(other.label for other in others if other.clearly_above(figure))
    above = ", ".join(other.label for other in others if figure.clearly_above(other))
    values: dict[str, Any] = {"measured": True, "below": below, "above": above}
    for key in figures.keys() & CONTROLS:
        values |= {f"{key}_label": figures[key].label, f"above_{key}": figure.clearly_above(figures[key])}
    bare = figures.get("head")
    if bare is not None and bare.milliseconds and figure.milliseconds:
        own, ratio = figure.milliseconds, figure.milliseconds / bare.milliseconds
        values["timed"] = f"{own:.2f} ms a row, the bare model {bare.milliseconds:.2f} ms: {ratio:.2f} times"
        values["in_time"] = latency is not None and ratio <= latency
    return values


def _conclusion(leaders: Sequence[Choice]) -> str:
    """The one that is first, and by whose figures."""
    if len(leaders) != 1:
        return ""
    own = any(reason.stance == "for" and reason.rule == "own_figures" for reason in leaders[0].reasons)
    published = "published figures and counts, of other bases and data; figures of your own would decide"
    mind = "; mind what speaks against it" if "against" in leaders[0].stances else ""
    return f"{leaders[0]} stands first, by {'your own figures' if own else published}{mind}"


def _why(leaders: Sequence[Choice], compared: bool) -> str:
    if not compared:
        return "no reason separates them; the fewest weights stand first"
    alone = [choice for choice in leaders if choice.figure is not None and choice.figure.sd is None]
    if alone:
        return f"{', '.join(map(str, alone))} measured with one seed, which says nothing of the noise; repeat with more seeds"
    return "their means are no further apart than their standard deviations; the higher mean stands first"
