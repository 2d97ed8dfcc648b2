"""The table and the picture of a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from graftwork.report import sweep_picture, sweep_table

OVER: list[dict[str, Any]] = [
    {"key": "adapter.reduction_factor", "choices": [4, 16], "low": 0, "high": 0, "log": False},
    {"key": "training.learning_rate", "choices": [], "low": 1e-4, "high": 1e-2, "log": True},
    {"key": "training.schedule", "choices": ["linear", "cosine"], "low": 0, "high": 0, "log": False},
]
ENDS = [("done", 0.75, None), ("pruned", None, None), ("failed", None, "no [bold]\nmore"), ("done", 0.875, None)]
FOUND: dict[str, Any] = {
    "kind": "fusion",
    "targets": ["a", "b"],
    "metric": "mean of accuracy",
    "over": OVER,
    "best": "0003",
    "trials": [
        {
            "trial": f"{n:04d}",
            "state": state,
            "score": score,
            "values": {
                "adapter.reduction_factor": 4,
                "training.learning_rate": 10**-n / 8,
                "training.schedule": "cosine",
            },
            "why": why,
        }
        for n, (state, score, why) in enumerate(ENDS)
    ],
}


def test_the_best_comes_first_and_what_has_no_score_says_why() -> None:
    lines = sweep_table(FOUND).text().splitlines()
    assert lines[0] == "Trials of fusion on a, b"
    assert lines[2].split("  ")[0] == "trial" and lines[2].endswith("dev mean of accuracy, %")
    assert [line.split() for line in lines[4:8]] == [
        ["0003", "4", "0.000125", "cosine", "87.5"],
        ["0000", "4", "0.125", "cosine", "75.0"],
        ["0001", "4", "0.0125", "cosine", "pruned"],
        ["0002", "4", "0.00125", "cosine", "failed"],
    ]
    assert lines[8] == "trial 0002 failed: no [bold]"


def test_the_picture_has_a_panel_for_each_key_with_the_best_marked() -> None:
    pytest.importorskip("matplotlib")
    axes = sweep_picture(FOUND).axes
    assert [ax.get_xlabel() for ax in axes] == [one["key"] for one in OVER]
    assert [ax.get_xscale() for ax in axes] == ["linear", "log", "linear"]
    assert [text.get_text() for text in axes[2].get_xticklabels()] == ["linear", "cosine"]
    points = axes[1].collections[0]
    assert points.get_offsets().tolist() == [[0.125, 75.0], [0.000125, 87.5]]
    assert len({tuple(colour) for colour in points.get_facecolors().tolist()}) == 2
