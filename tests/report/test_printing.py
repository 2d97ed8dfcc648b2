"""What a run says to type next."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from graftwork.experiments import Recipe, plan
from graftwork.report.files import print_next
from graftwork.report.run_data import Gathered
from tests.report.made_up import RECIPE, UNITS, results_of


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({}, '"<text>"'),
        ({"kind": "question_answering", "context": "passage"}, '"<question>" "<passage>"'),
        ({"kind": "image_classification"}, '"<image>"'),
    ],
)
def test_a_question_names_the_columns_that_its_task_reads(spec: dict[str, str], asked: str) -> None:
    made_up = Gathered(Path("runs/it's"), RECIPE, UNITS, results_of(UNITS))
    recipe = Recipe.make({"base": {"model": "base"}, "tasks": {"one-task": {"data": "data", **spec}}})
    out = io.StringIO()
    print_next(dataclasses.replace(made_up, recipe=recipe, units=plan(recipe)), Console(file=out))
    assert out.getvalue().splitlines()[-2:] == [
        "  graftwork show 'runs/it'\"'\"'s'",
        f"  graftwork predict 'runs/it'\"'\"'s' --task one-task {asked}",
    ]
