"""The study: its recipe by profile, and a table that marks what was not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.study.reading import against, looks
from examples.study.study import COLUMNS, MARK, NOT_RUN, PROFILES, study, table, write_below
from graftwork.experiments import plan
from graftwork.experiments.running.results import summarize
from tests.report.made_up import unit_result


@pytest.mark.parametrize("profile", PROFILES)
def test_every_column_is_planned_for_every_target(profile: str) -> None:
    recipe = study(profile)
    units = plan(recipe)
    for kind, method in COLUMNS:
        for target in recipe.targets:
            found = [u for u in units if (u.kind, u.method) == (kind, method) and target in (u.task, *u.tasks)]
            assert len(found) >= len(recipe.seeds), (kind, method, target)


def test_the_small_profile_is_that_of_the_recipe() -> None:
    recipe = study()
    assert {task.rows for task in recipe.tasks.values()} == {2000} and recipe.training.epochs == 3
    assert recipe.base.max_length == 64 and len(recipe.seeds) == 3 and recipe.training.bf16
    assert not study(bf16=False).training.bf16
    whole = study("full")
    assert all(task.rows is None for task in whole.tasks.values())


def test_the_quick_profile_has_smaller_targets() -> None:
    recipe = study("quick")
    rows = {name: task.rows for name, task in recipe.tasks.items()}
    assert {rows[name] for name in recipe.targets} == {500}
    assert {rows[name] for name in rows if name not in recipe.targets} == {1000}


def test_what_was_not_run_is_marked_and_never_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = study("quick", controls=["head", "full"])
    monkeypatch.setattr("tests.report.made_up.METRICS", dict.fromkeys(recipe.tasks, "accuracy"))
    units = plan(recipe)
    done = {u.id: unit_result(u, 0.5 + 0.01 * u.seed) for u in units if u.kind == "head" and u.task in ("rte", "mrpc")}
    done.pop("head/mrpc/2")
    lines = table(summarize(units, done, recipe), recipe).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == len(COLUMNS) + 1
    head = next(line for line in lines if line.startswith("| head only"))
    assert "| 51.0 ± 1.0 | 50.5 ± 0.7 (2) |" in head and head.count(NOT_RUN) == 2
    others = [line for line in lines[2:] if line.startswith("| ") and not line.startswith("| head only")]
    assert all(line.count(NOT_RUN) == 4 and not any(c in line.split("|")[6] for c in "0123456789") for line in others)


def row(scores: dict[int, float]) -> dict[str, Any]:
    return {"seeds": list(scores), "scores": list(scores.values())}


def test_the_fusion_is_held_against_the_others_seed_by_seed() -> None:
    rows = {
        ("fusion", "", "a"): row({0: 0.60, 1: 0.70}),
        ("fusion", "", "b"): row({0: 0.50}),
        ("own", "", "a"): row({1: 0.69, 2: 0.10}),  # only seed 1 has both
        ("own", "", "b"): row({0: 0.52}),
        ("head", "", "a"): row({0: 0.50, 1: 0.50}),
    }
    columns = {("fusion", ""): "fusion", ("own", ""): "own alone", ("head", ""): "head", ("full", ""): "full"}
    made = against(rows, ["a", "b"], columns)
    # (0.70 - 0.69, 0.50 - 0.52): their mean, and √(spread² / 2); the head has no b, and full was not run
    assert made.rows == [
        ["own alone", "+1.0", "-2.0", "-0.5 ± 1.5", "1 of 2"],
        ["head", "+15.0", "", "", "2 of 2"],
    ]


def test_where_the_fusion_looks() -> None:
    sites = {"encoder.layer.0.feed_forward": [0.2, 0.5, 0.3], "encoder.layer.1.feed_forward": [0.6, 0.3, 0.1]}
    unit = {"kind": "fusion", "task": "a", "seed": 0, "attention": {"adapters": ["s", "a", "t"], "sites": sites}}
    made = looks({"units": [unit]}, ["a", "b"])
    assert made.rows == [["a", "0.40", "0.33", "1 of 2", "s 0.40"]]


def test_what_is_above_the_mark_stays(tmp_path: Path) -> None:
    page = tmp_path / "study.md"
    write_below(page, "one\n")
    assert page.read_text() == f"{MARK}\n\none\n"
    page.write_text(f"# What it shows\n\n{MARK}\n\none\n")
    write_below(page, "two\n")
    assert page.read_text() == f"# What it shows\n\n{MARK}\n\ntwo\n"
