"""Discovery finds the published sites of every architecture of transformers that can be built tiny.

The sample runs with every test run; all of them with ``make test-architectures``, which also prints a table.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.architectures.known import KNOWN_FAILURES, NO_RESIDUALS, SAMPLE
from tests.architectures.verdict import FORMS, verdict
from tests.architectures.verdicts import RIGHT
from tests.zoo.shrink import model_types

Record = Callable[[str, object], None]


def check(model_type: str, record_property: Record) -> None:
    found = verdict(model_type)
    result, text = found.result, found.text
    record_property("architecture", model_type)
    record_property("verdict", result)
    record_property("text", text)
    if found.counts is not None:
        record_property("operations", found.counts.to_dict())
    if result == "not built":
        pytest.skip(text)
    if model_type in KNOWN_FAILURES:
        assert result not in RIGHT, f"{model_type} is right now: take it out of KNOWN_FAILURES ({text})"
        pytest.xfail(f"{result}: {KNOWN_FAILURES[model_type]}")
    assert result in RIGHT, f"{model_type}: {result}: {text}"


@pytest.mark.parametrize("model_type", SAMPLE)
def test_sites_of_the_sample(model_type: str, record_property: Record) -> None:
    check(model_type, record_property)


@pytest.mark.architectures
@pytest.mark.parametrize("model_type", [name for name in model_types() if name not in SAMPLE])
def test_sites_of_every_architecture(model_type: str, record_property: Record) -> None:
    check(model_type, record_property)


def test_an_architecture_is_judged_once() -> None:
    tables = [*FORMS, *NO_RESIDUALS, *KNOWN_FAILURES]
    assert len(tables) == len(set(tables))
