"""The results of a run: every unit's, and for each target a table of what was compared."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import KINDS, OF_SOURCES, UNIT_KINDS, Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import RESULTS
from graftwork.experiments.running.forgetting import Forgetting, interference
from graftwork.experiments.running.records import Results, read_record

Result = dict[str, Any]


def summarize(
    units: Sequence[Unit], results: Mapping[str, Result], recipe: Recipe, failed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The content of ``results.json``.

    Args:
        units: All units of the run.
        results: The results of those that are done, by their ids.
        recipe: The recipe: its targets have rows for its seeds; the adapters of all other tasks are its sources.
        failed: Why some failed or were left out, by their ids.

    Returns:
        ``languages``, ``knowledge``, ``sources`` and ``targets``, each a list of rows ``{"task", "kind", "seeds", "scores",
        "mean", "sd", "metric", "scored_on", "members", "under", "trained_weights", "file_bytes", "timings"}``, and ``units``.
        ``sd`` is that of the sample over the seeds, ``null`` for one seed. A row of knowledge also has its ``cloze``, a row of
        a task that is scored elsewhere, such as in other languages, ``language`` and ``elsewhere``: mean and sd for each place;
        one of a method its ``method``.

        ``together`` has a row for each kind of unit that was trained on all tasks, with the scores of all of them, those of the
        tasks that were also trained alone (``alone``), and how much better than alone they are (``interference``);
        ``sequences`` has the scores after every step of each sequence, with the figures of
        `graftwork.experiments.running.forgetting`.
        ``failed`` has ``{"unit", "why"}`` for each training that failed or was left out for one that did.
        Times are in ``timings`` alone: everything else is the same in a run that was resumed.
    """
    done = [results[unit.id] for unit in units if unit.id in results]
    sources = [r for r in done if r["kind"] in OF_SOURCES and not r.get("method") and r["task"] not in recipe.targets]
    rows: list[dict[str, Any]] = []
    alone, lines = [_row([r]) for r in sources], _lines_of(recipe)
    for target in recipe.targets:
        # the adapters that only `copies` needs have seeds of their own, and are in no row
        scored = [r for one in done for r in _of_task(one, target) if r["seed"] in recipe.seeds]
        for line in lines:
            found = [r for r in scored if _line(r) == line]
            rows += [_row(found)] if found else []
    return {
        "format": 1,
        "complete": len(done) == len(units),
        "languages": [_row([r]) for r in done if r["kind"] == "language"],
        "knowledge": [_row([r]) for r in done if r["kind"] == "knowledge"],
        "sources": alone,
        "targets": rows,
        "together": [row for line in lines if (row := _together(line, done, [*alone, *rows])) is not None],
        "sequences": [_sequence(r, done) for r in done if "sequence" in r],
        "units": done,
        "failed": [{"unit": unit, "why": why} for unit, why in (failed or {}).items()],
    }


def _lines_of(recipe: Recipe) -> list[tuple[str, str]]:
    """The rows that a target's table may have: kind and method, in order."""
    methods = {"method": [*recipe.methods], "mt_shared": ["", *recipe.methods], "new_task": ["", *recipe.methods]}
    return [(kind, method) for kind in KINDS for method in methods.get(kind, [""])]


def _line(result: Result) -> tuple[str, str]:
    return result["kind"], result.get("method", "")


def _of_task(result: Result, task: str) -> list[Result]:
    """A unit's result as that of one task; none where it is of others."""
    if "tasks" not in result:
        return [result] if result["task"] == task else []
    return [{**result, **result["tasks"][task], "task": task}] if task in result["tasks"] else []


def _together(line: tuple[str, str], done: Sequence[Result], rows: Sequence[Result]) -> Result | None:
    """All units of a kind that were trained on all tasks, with the mean score of each task, compared with training alone."""
    kind, method = line
    found = [r for r in done if _line(r) == line]
    if not found or UNIT_KINDS[kind].trained_on != "all":
        return None
    means = {task: statistics.fmean(r["tasks"][task]["score"] for r in found) for task in found[0]["tasks"]}
    alone = UNIT_KINDS[kind].alone
    single = {row["task"]: row["mean"] for row in rows if row["kind"] == alone and row["task"] in means}
    return {
        "kind": kind,
        **({"method": method} if method else {}),
        "seeds": [r["seed"] for r in found],
        "scores": {task: {"mean": mean, "metric": found[0]["tasks"][task]["metric"]} for task, mean in means.items()},
        "against": alone,
        "alone": single,
        "interference": interference(single, means),
        **{key: found[0][key] for key in ("trained_weights", "file_bytes")},
    }


def _sequence(result: Result, done: Sequence[Result]) -> dict[str, Any]:
    """A sequence, with the forward transfer to those tasks that were trained alone too."""
    alone = UNIT_KINDS[result["kind"]].alone
    scores = {r["task"]: r["score"] for r in done if r["kind"] == alone and r["seed"] == result["seed"]}
    forward = Forgetting.from_dict(result["sequence"]).forward_transfer(scores)
    metrics = {task: one["metric"] for task, one in result["tasks"].items()}
    return {
        "kind": result["kind"],
        "seed": result["seed"],
        **result["sequence"],
        "forward_transfer": forward,
        "metrics": metrics,
    }


def read_results(run: str | Path) -> dict[str, Any]:
    """The content of a run's ``results.json``.

    Raises:
        RecipeError: If there is none, or it is damaged.
    """
    path = Path(run) / RESULTS
    if not path.is_file():
        raise RecipeError(f"{run} has no {RESULTS} yet; give the folder that `graftwork run` wrote into")
    found: dict[str, Any] = read_record(path, Results, "the same `graftwork run` writes it again")
    return found


def _row(results: Sequence[Result]) -> dict[str, Any]:
    first, scores = results[0], [r["score"] for r in results]
    more: dict[str, Any] = {key: first[key] for key in ("cloze", "language", "method", "folds") if key in first}
    if "elsewhere" in first:
        places = [place for place in first["elsewhere"] if all(place in (r.get("elsewhere") or {}) for r in results)]
        values = {place: [r["elsewhere"][place][r["metric"]] for r in results] for place in places}
        more["elsewhere"] = {place: {"scores": found, **_spread(found)} for place, found in values.items()}
    return {
        **{key: first[key] for key in ("task", "kind", "metric", "scored_on", "members")},
        "under": first.get("under", []),
        **{key: first[key] for key in ("trained_weights", "file_bytes")},
        "seeds": [r["seed"] for r in results],
        "scores": scores,
        **_spread(scores),
        **more,
        "timings": {
            "train_seconds": round(statistics.fmean(r["timings"]["train_seconds"] for r in results), 1),
            "milliseconds_a_row": round(statistics.fmean(r["timings"]["milliseconds_a_row"] for r in results), 2),
        },
    }


def _spread(scores: Sequence[float]) -> dict[str, float | None]:
    return {"mean": statistics.fmean(scores), "sd": statistics.stdev(scores) if len(scores) > 1 else None}
