"""The rules about what is asked for: each is one function, from a case to its reasons.

No figure of the literature is written here: reasons are put together from needs, counts, measurements and `facts`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.report.recommending.candidates import Candidate
from graftwork.report.recommending.case import Case, Rule, needed
from graftwork.report.recommending.evidence import DEFINITION, GIVEN, Evidence, Reason, Stance, literature
from graftwork.report.recommending.facts import ADAPTER_RATIOS, FUSION_RATIO, TIMED_POOL


def stands_in_the_base(case: Case) -> Iterator[Reason]:
    """A method that has no place in the base is out."""
    for key, count in case.base.counts.items():
        if not count.fits:
            text = f"it cannot stand in {case.base.name}: {count.why_not}"
            yield needed("stands_in_the_base", key, "out", text, DEFINITION)


def tasks_change(case: Case) -> Iterator[Reason]:
    """Tasks that come and go at run time ask for a hypernetwork, and against what learns all of them at once."""
    if not case.needs.changing:
        return
    rule = "tasks_change"
    for candidate in case.candidates:
        if candidate.key == "hyperformer_plus_plus" and case.base.counts[candidate.key].fits:
            own = case.base.counts[candidate.key].own
            text = f"tasks come and go: a new one is an embedding of {own:,d} weights on the same hypernetwork"
            yield needed(
                rule, candidate.key, "for", text, _counted(case, candidate.key), *literature("hyperformer a task")
            )
        elif candidate.shape == "together":
            yield needed(
                rule, candidate.key, "against", "tasks change, and its weights learn all of them at once", DEFINITION
            )
        elif candidate.shape == "fuses":
            text = "tasks change, and what combines them learns anew whenever an adapter is added"
            yield needed(rule, candidate.key, "against", text, DEFINITION)
        elif candidate.trains_base:
            yield needed(rule, candidate.key, "against", "tasks change, and each is a whole model to load", DEFINITION)


def weights_are_limited(case: Case) -> Iterator[Reason]:
    """What takes more weights a task than allowed is out."""
    limit = case.needs.weights_a_task
    if limit is None:
        return
    rule = "weights_are_limited"
    for candidate in case.candidates:
        weights = case.weights(candidate.key)
        if weights is None:
            why = case.base.counts[candidate.key].why_not
            yield needed(
                rule, candidate.key, "note", f"its weights are not counted ({why}); the limit is {limit:,d}", GIVEN
            )
            continue
        within = weights <= limit
        text = f"{weights:,d} weights a task, {'within' if within else 'above'} the limit of {limit:,d}"
        yield needed(rule, candidate.key, "meets" if within else "out", text, _counted(case, candidate.key))
    yield needed(rule, "compacter_plus_plus", "note", "made to be small", *literature("compacter a task"))


def time_is_limited(case: Case) -> Iterator[Reason]:
    """A limit of the time of inference: by what was measured, else by what the literature timed."""
    limit = case.needs.latency
    if limit is None:
        return
    bare = case.figures.get("head")
    for candidate in case.candidates:
        figure = case.figures.get(candidate.key)
        if bare is not None and bare.milliseconds and figure is not None and figure.milliseconds:
            ratio = figure.milliseconds / bare.milliseconds
            bound = f"{ratio:.2f} times, {'within' if ratio <= limit else 'above'} {limit:g}"
            text = f"{figure.milliseconds:.2f} ms a row, the bare model {bare.milliseconds:.2f} ms: {bound}"
            stance: Stance = "meets" if ratio <= limit else "out"
            yield needed("time_is_limited", candidate.key, stance, text, figure.evidence)
        else:
            yield from _timed_elsewhere(candidate, limit, case.needs.pool)


def _timed_elsewhere(candidate: Candidate, limit: float, pool: int) -> Iterator[Reason]:
    rule, key = "time_is_limited", candidate.key
    low, high = ADAPTER_RATIOS
    if candidate.shape == "no adapter":
        yield needed(rule, key, "meets", "it takes what the bare model takes", DEFINITION)
    elif key == "lora":
        yield needed(rule, key, "meets", f"within {limit:g} if merged", *literature("lora merged"))
    elif candidate.shape == "fuses" and limit < low:
        text = f"above {limit:g}: no fusion is faster than one adapter"
        yield needed(rule, key, "against", text, DEFINITION, *literature("adapter is slower"))
    elif key == "fusion" and pool >= TIMED_POOL and limit < FUSION_RATIO:  # more adapters take longer
        text = f"above {limit:g}, as timed there; here it is of {pool} adapters"
        yield needed(rule, key, "against", text, *literature("fusion is slower", "fusion pruned"))
    elif key == "fusion" and pool <= TIMED_POOL and limit >= FUSION_RATIO:
        yield needed(rule, key, "meets", f"within {limit:g}, as timed there", *literature("fusion is slower"))
    elif key == "fusion":
        text = f"not enough to tell whether it is within {limit:g}: with {pool} adapters none was timed"
        yield needed(rule, key, "note", text, *literature("fusion is slower"))
    elif candidate.in_sequence and not low <= limit < high:
        stance: Stance = "meets" if limit >= high else "against"
        text = f"{'within' if limit >= high else 'above'} {limit:g}, as timed there"
        yield needed(rule, key, stance, text, *literature("adapter is slower"))
    else:
        yield needed(
            rule, key, "note", f"not enough to tell whether it is within {limit:g}", *literature("adapter is slower")
        )


def base_stays(case: Case) -> Iterator[Reason]:
    """Where the base may not be changed, what trains it is out."""
    if case.needs.keep_base:
        for candidate in case.candidates:
            if candidate.trains_base:
                text = "the base may not be changed, and it is trained"
                yield needed("base_stays", candidate.key, "out", text, DEFINITION)


def nothing_is_forgotten(case: Case) -> Iterator[Reason]:
    """Where what was learnt must stay, weights that several tasks learn are against it."""
    if not case.needs.keep_old:
        return
    for candidate in case.candidates:
        if candidate.shape == "together":
            text = "one more task trains weights that the others use: they do not stay what they were"
        elif candidate.trains_base:
            text = "the next task trains the same base, unless each has a copy of its own"
        else:
            continue
        yield needed("nothing_is_forgotten", candidate.key, "against", text, DEFINITION)


def _counted(case: Case, key: str) -> Evidence:
    """What the weights of a candidate were counted on: the base, or for what only a run knows, the run."""
    if key in case.base.counts:
        return Evidence("counted", f"on {case.base.name}")
    return case.figures[key].evidence


RULES: tuple[Rule, ...] = (
    stands_in_the_base,
    tasks_change,
    weights_are_limited,
    time_is_limited,
    base_stays,
    nothing_is_forgotten,
)
