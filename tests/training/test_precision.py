"""The precision that suits a machine, and that a budget asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graftwork.errors import RecipeError
from graftwork.experiments import Recipe
from graftwork.training import precision
from graftwork.training.budget import StageBudget

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TABLES: dict[str, Any] = {"base": {"model": "bert"}, "tasks": {"t": {"train": "t.csv"}}}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2", "float32"),
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("", "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions(
    flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    found = precision._cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(precision, "_cpu_flags", lambda: found)
    assert precision.best_precision(CPU) == expected


def test_a_system_that_does_not_tell_its_instructions(tmp_path: Path) -> None:
    assert precision._cpu_flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")]
)
def test_a_gpu(capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.best_precision(GPU) == expected
    unscaled = StageBudget(precision="auto").precision_on(GPU, scales=False)
    assert unscaled == (expected if expected != "float16" else "float32")


def test_a_budget_says_what_is_computed_in() -> None:
    assert StageBudget().precision_on(CPU) == "float32"
    assert StageBudget(bf16=True).precision_on(CPU) == "bfloat16"
    assert StageBudget(precision="float16").precision_on(GPU) == "float16"


def budget(**training: Any) -> Recipe:
    return Recipe.make({**TABLES, "training": training})


def test_one_kind_of_training_changes_it_by_either_name() -> None:
    found = budget(precision="auto", full={"bf16": True}, head={"precision": "float32"})
    assert found.budget("full").precision_on(CPU) == "bfloat16"
    assert found.budget("head").precision_on(CPU) == "float32"
    assert found.budget("adapter").precision == "auto"


@pytest.mark.parametrize(
    "training", [{"bf16": True, "precision": "auto"}, {"full": {"bf16": False, "precision": "auto"}}]
)
def test_both_names_at_once_are_refused(training: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="bf16 and precision both say"):
        budget(**training)


def test_early_stopping_of_a_budget() -> None:
    found = budget(patience=3, early_stopping={"metric": "loss"}, full={"early_stopping": {"patience": 1}})
    assert (found.budget("adapter").stops_by, found.budget("adapter").stops_after) == ("loss", 3)
    assert (found.budget("full").stops_by, found.budget("full").stops_after) == (None, 1)
    assert found.budget("longer").stops_after is None and found.budget("longer").stops_by == "loss"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"training": {"early_stopping": {"metric": "f2"}}},
            "training.early_stopping.metric, for tasks.t: metric 'f2' is not known",
        ),
        ({"training": {"early_stopping": {"metric": "bleu"}}}, "is of texts, not of labels"),
        (
            {"together": 2, "training": {"early_stopping": {"metric": "loss"}}},
            "together is 2 and training.early_stopping",
        ),
        ({"together": 2, "training": {"precision": "float16"}}, "together is 2 and training.precision is float16"),
    ],
)
def test_what_cannot_be_asked_for(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.make({**TABLES, **more})
