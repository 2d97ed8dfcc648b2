"""Needs, a base and figures made by hand, and what is said of a method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graftwork.report.recommending import Advice, Base, Choice, Count, Figure, Needs, Reason, recommend
from graftwork.report.recommending.base import KEYS

OWN = dict(zip(KEYS, range(1_000_003, 9_000_000, 100_019), strict=False))
BASE = Base(
    "made-up",
    110_000_017,
    {
        **{key: Count(own=OWN[key]) for key in KEYS},
        "hyperformer_plus_plus": Count(own=64, shared=2_500_001),
        "together": Count(shared=894_528),
        "pal": Count(own=1_800_001, shared=110_000_017),
        "full": Count(own=110_000_017),
        "head": Count(),
    },
)


def needs(rows: int = 2_490, sources: dict[str, int] | None = None, **more: Any) -> Needs:
    return Needs(target="t", tasks={"t": rows, **more.pop("tasks", {})}, sources=sources or {}, **more)


def figure(method: str, mean: float, sd: float | None = 0.01, **more: Any) -> Figure:
    options: dict[str, Any] = {
        "label": method,
        "task": "t",
        "seeds": 1 if sd is None else 3,
        "metric": "accuracy",
        "scored_on": "dev",
        "weights": 894_529,
        "milliseconds": None,
        "run": "runs/mine",
        "base": "made-up",
        **more,
    }
    return Figure(method=method, mean=mean, sd=sd, **options)


def advice(given: Needs, *figures: Figure, base: Base = BASE) -> Advice:
    return recommend(given, base, figures)


def choice(found: Advice, key: str) -> Choice:
    return next(choice for choice in found.choices if choice.candidate.key == key)


def leaders(found: Advice) -> tuple[Choice, ...]:
    """Those of the first rank."""
    return tuple(choice for choice in found.choices if choice.rank == 1)


def said(found: Advice, rule: str) -> dict[str, Reason]:
    """The reasons of one rule by method: what `stances` tells of, whole."""
    return {c.candidate.key: r for c in found.choices for r in c.reasons if r.rule == rule}


def stances(found: Advice, rule: str) -> dict[str, str]:
    return {key: reason.stance for key, reason in said(found, rule).items()}


def write_run(
    folder: Path, rows: list[dict[str, Any]], adapter: dict[str, Any] | None = None, base: str = "bert"
) -> Path:
    """The folder of a run of which only the table of results is there."""
    folder.mkdir(parents=True)
    recipe = {"base": {"model": base}, "tasks": {"t": {"data": "t"}, "s": {"data": "s"}}, "targets": ["t"]}
    (folder / "recipe.json").write_text(json.dumps({**recipe, **({"adapter": adapter} if adapter else {})}))
    (folder / "results.json").write_text(json.dumps({"format": 1, "complete": True, "targets": rows}))
    return folder


def result_row(kind: str, mean: float, sd: float | None = 0.01, **more: Any) -> dict[str, Any]:
    row = {"task": "t", "kind": kind, "metric": "accuracy", "scored_on": "dev", "members": [], "mean": mean, "sd": sd}
    costs = {"trained_weights": 1000, "file_bytes": 4000, "timings": {"train_seconds": 9.0, "milliseconds_a_row": 10.0}}
    return {**row, **costs, "seeds": [0] if sd is None else [0, 1, 2], **more}
