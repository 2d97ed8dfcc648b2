"""Judging one architecture: built, right by the strict rule, right in its published form, wrong, or refused."""

from __future__ import annotations

import collections
import re
import warnings
from typing import Any

from graftwork.errors import SiteError
from graftwork.sites import discover
from tests.architectures.known import NO_RESIDUALS, PUBLISHED
from tests.architectures.verdicts import CONVOLUTIONS, PUBLISHED_FORM, REFUSED_RIGHTLY, STRICT
from tests.zoo.expected import Judgement, judge
from tests.zoo.registry import Unavailable
from tests.zoo.shrink import shrink_model

FORMS: dict[str, str] = {name: form for group in PUBLISHED.values() for name, form in group.items()}


def verdict(model_type: str) -> tuple[str, str]:
    """One of `verdicts.VERDICTS` for a model type, and what was found or why it was not."""
    try:
        model, inputs = shrink_model(model_type)
    except Unavailable as reason:
        return "not built", str(reason)
    try:
        judgement = _look(model, inputs)
    except SiteError as error:
        return (REFUSED_RIGHTLY if model_type in NO_RESIDUALS else "refused"), " ".join(str(error).split())[:600]
    if model_type in NO_RESIDUALS and not judgement.found:
        return CONVOLUTIONS, str(judgement)
    if judgement.strict:
        return STRICT, str(judgement)
    if model_type in FORMS and stacks_of(judgement) == parse(FORMS[model_type]):
        return PUBLISHED_FORM, str(judgement)
    return "wrong", str(judgement)


def _look(model: Any, inputs: dict[str, Any]) -> Judgement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return judge(model, inputs, discover(model, inputs))


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
