"""Judging one architecture: built, right by the strict rule, right in its published form, wrong, or refused."""

from __future__ import annotations

import collections
import dataclasses
import re
import warnings
from typing import Any

from torch import nn

from graftwork.errors import SiteError
from graftwork.sites.discovery.discover import observe, site_map
from tests.architectures.coverage import Counts, counts_of
from tests.architectures.known import NO_RESIDUALS, PUBLISHED
from tests.architectures.made_by_hand import MADE, made_by_hand
from tests.architectures.verdicts import CONVOLUTIONS, PUBLISHED_FORM, REFUSED_RIGHTLY, STRICT
from tests.zoo.expected import Judgement, judge
from tests.zoo.registry import Unavailable
from tests.zoo.shrink import shrink_model

FORMS: dict[str, str] = {name: form for group in PUBLISHED.values() for name, form in group.items()}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What was found of an architecture.

    Attributes:
        result: One of `verdicts.VERDICTS`.
        text: What was found, or why it was not.
        counts: The operations that ran, where the model was not refused.
    """

    result: str
    text: str
    counts: Counts | None = None


def verdict(model_type: str) -> Verdict:
    """The verdict on a model type."""
    try:
        model, inputs = made_by_hand(model_type) if model_type in MADE else shrink_model(model_type)
    except Unavailable as reason:
        return Verdict("not built", str(reason))
    try:
        judgement, counts = _look(model, inputs)
    except SiteError as e:
        refused = REFUSED_RIGHTLY if model_type in NO_RESIDUALS else "refused"
        return Verdict(refused, " ".join(str(e).split())[:600])
    if model_type in NO_RESIDUALS and not judgement.found:
        return Verdict(CONVOLUTIONS, str(judgement), counts)
    if judgement.strict:
        return Verdict(STRICT, str(judgement), counts)
    if model_type in FORMS and stacks_of(judgement) == parse(FORMS[model_type]):
        return Verdict(PUBLISHED_FORM, str(judgement), counts)
    return Verdict("wrong", str(judgement), counts)


def _look(model: nn.Module, inputs: dict[str, Any]) -> tuple[Judgement, Counts]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = observe(model, inputs)
        return judge(model, inputs, site_map(model, seen)), counts_of(seen)


def stacks_of(judgement: Judgement) -> collections.Counter[tuple[str, ...]]:
    """The stacks found, whatever they are called in this version of transformers."""
    return collections.Counter(judgement.found.values())


def parse(form: str) -> collections.Counter[tuple[str, ...]]:
    """Reads a form of `known.PUBLISHED`: ``"4*(M AF*2) | X"`` is four stacks of M, AF, AF, and one of X."""
    stacks: collections.Counter[tuple[str, ...]] = collections.Counter()
    for part in form.split(" | "):
        many = re.fullmatch(r"(\d+)\*\((.*)\)", part)
        times, layers = (int(many[1]), many[2]) if many else (1, part)
        names = [layer.partition("*") for layer in layers.split()]
        stacks[tuple(kinds for kinds, _, number in names for _ in range(int(number or 1)))] += times
    return stacks
