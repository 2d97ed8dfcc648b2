"""The rules about data, and about what was measured: each is one function, from a case to its reasons.

No figure of the literature is written here: reasons are put together from needs, counts, measurements and `facts`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.report.recommending.case import Case, Rule, expected, needed
from graftwork.report.recommending.evidence import GIVEN, Reason, Stance, literature
from graftwork.report.recommending.facts import FUSION, LARGE_TARGET, SMALL_TARGET, SMALLEST
from graftwork.report.recommending.measured import CONTROLS
from graftwork.report.recommending.needs import Needs
from graftwork.tasks import kinds


def small_target_with_larger_sources(case: Case) -> Iterator[Reason]:
    """A small target gains by what larger related tasks have learnt."""
    needs, rule = case.needs, "small_target_with_larger_sources"
    if needs.rows >= SMALL_TARGET or not needs.larger:
        return
    text = f"{_size(needs)}, and {', '.join(needs.larger)} more"
    yield expected(rule, "fusion", "for", text, *literature("fusion on small tasks", "fusion on small tasks, RoBERTa"))
    yield expected(rule, "scalearn", "for", text, *literature("scalearn on RTE"))
    yield expected(rule, "together", "for", text, *literature("together on small tasks"))
    yield expected(rule, "hyperformer_plus_plus", "for", text, *literature("hyperformer on RTE"))
    yield expected(rule, "intermediate", "for", text, *literature("intermediate"))


def scales_against_attention(case: Case) -> Iterator[Reason]:
    """Where there is something to combine in a small target's favour, ScaLearn came out above a fusion."""
    needs, rule = case.needs, "scales_against_attention"
    if needs.larger:
        small = needs.rows < SMALL_TARGET
        text = (
            "above a fusion where both were trained" if small else "no spread is given: not enough to tell them apart"
        )
        facts = "scalearn and fusion" if small else "scalearn on large tasks"
        yield expected(rule, "scalearn", "for" if small else "note", text, *literature(facts))


def no_sources(case: Case) -> Iterator[Reason]:
    """Without a related task there is nothing to combine, and nothing to learn first."""
    if case.needs.sources:
        return
    for candidate in case.shaped("fuses"):
        text = "no related task at hand: a fusion of the target's own adapter has nothing to add"
        yield expected("no_sources", candidate.key, "against", text, GIVEN)
    for candidate in case.shaped("after another"):
        yield needed("no_sources", candidate.key, "out", "no related task at hand to learn first", GIVEN)


def no_larger_source(case: Case) -> Iterator[Reason]:
    """Of sources that are smaller than the target nothing is known."""
    needs = case.needs
    if needs.sources and not needs.larger:
        for candidate in case.shaped("fuses", "after another"):
            text = f"no source has more rows than {needs.target} ({needs.rows:,d}): not enough to tell what they bring"
            yield expected("no_larger_source", candidate.key, "note", text, GIVEN)


def larger_target(case: Case) -> Iterator[Reason]:
    """A larger target has what it needs in its own rows; against a fusion that speaks from the largest bin on.

    For an adapter of its own it is no vote: what speaks against the others is one already, and full fine-tuning is not told apart.
    """
    needs, rule = case.needs, "larger_target"
    if needs.rows < SMALL_TARGET:
        return
    large = needs.rows > LARGE_TARGET
    text = _size(needs)
    yield expected(rule, "fusion", "against" if large else "note", text, *literature("fusion on larger tasks"))
    yield expected(rule, "together", "against", text, *literature("together on larger tasks"))
    yield expected(rule, "full", "note", text, *literature("full on larger tasks", "adapters and full"))
    if large:
        for candidate in case.shaped("alone"):
            yield expected(rule, candidate.key, "note", f"{text}: they are enough for an adapter of its own", GIVEN)


def small_target_alone(case: Case) -> Iterator[Reason]:
    """On few rows the whole base is too much to train."""
    needs = case.needs
    if needs.rows < SMALL_TARGET:
        yield expected("small_target_alone", "full", "against", _size(needs), *literature("full on small tasks"))


def hardly_any_rows(case: Case) -> Iterator[Reason]:
    """Below the smallest task that a fusion was measured on there is no figure, and a warning."""
    needs = case.needs
    if needs.rows < SMALLEST:
        text = f"{needs.target} has {needs.rows:,d} rows, fewer than the {SMALLEST} of the smallest task with a figure"
        yield expected("hardly_any_rows", "fusion", "against", text, *literature("few rows"))


def one_task(case: Case) -> Iterator[Reason]:
    """One task has nothing to share, unless others come."""
    if case.needs.many > 1 or case.needs.changing:
        return
    for candidate in case.shaped("together"):
        yield needed("one_task", candidate.key, "out", "there is one task: nothing is learnt together", GIVEN)
    for candidate in case.shaped("alone"):
        yield needed("one_task", candidate.key, "note", "there is one task: one adapter serves it", GIVEN)


def texts_are_written(case: Case) -> Iterator[Reason]:
    """Where the answer is a text, parallel adapters came out above those in sequence."""
    kind = case.needs.kind
    if kind is not None and kinds[kind].generates:
        text = f"{case.needs.target} is answered by a text"
        yield expected("texts_are_written", "parallel", "for", text, *literature("parallel"))


def standing_of_methods(case: Case) -> Iterator[Reason]:
    """What is known of a method whatever the task: told, and where it is plain, counted."""
    rule = "standing_of_methods"
    yield expected(rule, "head", "against", "nothing inside the base learns", *literature("head alone"))
    for key in ("pfeiffer", "houlsby"):
        text = "no figure that sets the two apart for every task"
        yield expected(rule, key, "note", text, *literature("houlsby against pfeiffer"))
    yield expected(rule, "compacter", "note", "small", *literature("compacter on GLUE"))
    yield expected(rule, "compacter_plus_plus", "note", "small", *literature("compacter++ on GLUE"))
    yield expected(rule, "pal", "note", "trained with the whole base", *literature("pals"))
    yield expected(rule, "hyperformer_plus_plus", "against", "hard to train", *literature("hyperformer wavers"))


def own_figures(case: Case) -> Iterator[Reason]:
    """What the user has measured."""
    figures = {key: figure for key, figure in case.figures.items() if key not in CONTROLS}
    for key, figure in figures.items():
        above = [other.label for other in figures.values() if other.clearly_above(figure)]
        below = [other.label for other in figures.values() if figure.clearly_above(other)]
        parts = [f"clearly below {', '.join(above)}"] if above else []
        parts += [f"clearly above {', '.join(below)}"] if below else []
        stance: Stance = "against" if above else "for" if below else "note"
        text = " and ".join(parts) or "not clearly apart from anything that was measured"
        yield expected("own_figures", key, stance, text, figure.evidence)


def gain_of_the_sources(case: Case) -> Iterator[Reason]:
    """A fusion that is no better than one of the target's adapter alone owes nothing to its sources."""
    fusion = case.figures.get("fusion")
    for key in CONTROLS:
        control = case.figures.get(key)
        if fusion is None or control is None:
            continue
        clear = fusion.clearly_above(control)
        text = (
            f"clearly above the {control.label}"
            if clear
            else f"not clearly above the {control.label}: not enough to tell whether its sources help"
        )
        stance: Stance = "for" if clear else "note"
        yield expected("gain_of_the_sources", "fusion", stance, text, fusion.evidence, control.evidence)


def _size(needs: Needs) -> str:
    """The size of the target, and the bin of the paper that it falls into."""
    if needs.rows < SMALL_TARGET:
        bound = f"fewer than {SMALL_TARGET:,d}"
    else:
        bound = f"more than {LARGE_TARGET:,d}" if needs.rows > LARGE_TARGET else f"{SMALL_TARGET:,d} or more"
    return f"{needs.target} has {needs.rows:,d} rows, {bound} (a bin of {FUSION})"


RULES: tuple[Rule, ...] = (
    own_figures,
    gain_of_the_sources,
    small_target_with_larger_sources,
    scales_against_attention,
    no_sources,
    no_larger_source,
    larger_target,
    small_target_alone,
    hardly_any_rows,
    one_task,
    texts_are_written,
    standing_of_methods,
)
