"""Methods on the same tasks, seeds and budget: trained, their costs measured, and how certain their differences are.

comparison(recipe, names) ── run ── results, predictions ──┬── comparison.json
                             costs ── costs.json ──────────┘
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import TrainingError
from graftwork.experiments.comparing.bootstrap import Drawn, Resampling, mean_difference
from graftwork.experiments.comparing.selection import comparison, grown
from graftwork.experiments.costing.costs import measure_costs, read_costs
from graftwork.experiments.kinds import REFERENCE, Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import COMPARISON, RESULTS, claimed, read_predictions, write_json
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.on_ranks import refuse_ranks
from graftwork.experiments.running.records import Comparison, read_record
from graftwork.experiments.running.results import read_results
from graftwork.experiments.running.run import read_tasks
from graftwork.experiments.running.run import run as train
from graftwork.tasks import Task
from graftwork.training.scores import splits_of

Row = dict[str, Any]
# For each line of a task, by seed, the score with all its draws.
Draws = Mapping[str, Mapping[int, Drawn]]


def compare(
    recipe: Recipe,
    names: Sequence[str] | None = None,
    *,
    run: str | Path,
    root: str | Path = ".",
    watcher: Watcher | None = None,
    costs: bool = True,
    redo: bool = False,
) -> dict[str, Any]:
    """Train what is compared, each with the same tasks, seeds and budget, and compare it with full fine-tuning.

    What the folder has already is not done again; what an earlier comparison in it has stays in it.

    Args:
        recipe: Base, tasks, seeds and budget.
        names: What is compared (see `comparison`).
        run: The folder for its files; made where it is not there.
        root: What the recipe's paths are relative to: its own folder.
        watcher: A listener that is called with everything that happens.
        costs: Whether time and memory are measured. That starts processes: call it under ``if __name__ == "__main__"``.
        redo: As for `run`.

    Returns:
        The content of ``comparison.json`` (see `compared`).

    Raises:
        RecipeError: If a name is not known, the folder is in use, or was begun with another recipe.
        TaskError: If a task's data cannot be used.
        TrainingError: If trainings failed, when the others are compared; or at once where nothing can be written.
    """
    refuse_ranks("compare")
    folder, at = Path(run), Path(root)
    recipe, failed = grown(comparison(recipe, names), folder), None
    try:
        results = train(recipe, folder, root=root, watcher=watcher, redo=redo)
    except TrainingError as error:
        if not (folder / RESULTS).is_file():
            raise
        failed, results = error, read_results(folder)
        full = {row["task"] for row in results["targets"] if row["kind"] == REFERENCE}
        if not results["failed"] or full != {*recipe.targets}:
            raise
    tasks = read_tasks(recipe, at)
    with claimed(folder):
        found = compared(recipe, results, folder, tasks)
        write_json(folder / COMPARISON, found)  # before anything is measured, which may be interrupted
        if failed is not None:
            raise failed
        if costs:
            found["costs"] = measure_costs(recipe, folder, tasks, at, watcher)
            write_json(folder / COMPARISON, found)
    return found


def read_comparison(run: str | Path) -> dict[str, Any] | None:
    """The content of a folder's ``comparison.json``; ``None`` where nothing was compared in it.

    Raises:
        RecipeError: If it is damaged.
    """
    path = Path(run) / COMPARISON
    return read_record(path, Comparison) if path.is_file() else None


def compared(recipe: Recipe, results: Mapping[str, Any], run: Path, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """The content of ``comparison.json``.

    Args:
        recipe: The comparison.
        results: The content of ``results.json``.
        run: The run's folder, with the predictions of its units.
        tasks: Its tasks, read.

    Returns:
        ``targets``: of each ``{"task", "metric", "scored_on", "rows_scored", "draws", "rows"}``, each row a line of the
        results with ``line`` (its name in the folder), ``weights_a_task``, ``share`` (of the weights of full fine-tuning),
        ``against_full`` and ``against_best`` (a `Difference`, or ``null`` where it is not known) and ``best_other``.
        ``mean`` is the same over all targets; ``costs`` the content of ``costs.json``, or ``null``.
    """
    units = {(u.kind, u.method, target, u.seed): u for u in plan(recipe) for target in (u.task, *u.tasks)}
    targets, draws = [], []
    for number, target in enumerate(recipe.targets):
        rows = [dict(row) for row in results["targets"] if row["task"] == target]
        resample = resamplings(tasks[target], recipe.seeds, rows[0]["scored_on"], number)
        draws.append(draws_of(rows, units, run, resample))
        targets.append(_target(target, rows, draws[-1], units, rows_in(resample)))
    return {
        "format": 1,
        "reference": REFERENCE,
        "seeds": list(recipe.seeds),
        "targets": targets,
        "mean": _mean(targets, draws) if len(targets) > 1 else [],
        "costs": read_costs(run),
    }


def resamplings(task: Task, seeds: Sequence[int], scored_on: str, number: int) -> dict[int, Resampling]:
    """The draws for each seed: the same for all, or with folds those of the seed's own fold."""
    if not task.folds:
        return dict.fromkeys(seeds, Resampling(task, splits_of(task)[scored_on], seed=number))
    folds = [task.of_seed(fold) for fold in range(len(task.folds))]
    of_fold = [Resampling(one, one.dev, seed=(number, fold)) for fold, one in enumerate(folds)]
    return {seed: of_fold[seed % len(of_fold)] for seed in seeds}


def rows_in(resample: Mapping[int, Resampling]) -> int:
    """How many rows are drawn from, each counted once."""
    return sum(len(rows) for rows in {id(one.rows): one.rows for one in resample.values()}.values())


def draws_of(
    rows: Sequence[Mapping[str, Any]], units: Mapping[Any, Unit], run: Path, resample: Mapping[int, Resampling]
) -> Draws:
    """Every line's scores, on the rows and on every draw of them; without those that predictions alone do not give."""
    found: dict[str, dict[int, Drawn]] = {}
    for row in rows:
        of_line = found.setdefault(line_of(row), {})
        for seed, score in zip(row["seeds"], row["scores"], strict=True):
            unit = units[row["kind"], row.get("method", ""), row["task"], seed]
            drawn = resample[seed](read_predictions(unit.folder(run)).get(row["task"], []))
            if (
                drawn is not None and abs(drawn.score - score) < 1e-6
            ):  # else other predictions were kept than were scored
                of_line[seed] = drawn
    return found


def _target(target: str, rows: list[Row], draws: Draws, units: Mapping[Any, Unit], count: int) -> dict[str, Any]:
    full = next(row for row in rows if row["kind"] == REFERENCE)
    means = {line_of(row): row["mean"] for row in rows}
    for row in rows:
        unit = units[row["kind"], row.get("method", ""), target, row["seeds"][0]]
        row |= {
            "line": line_of(row),
            "weights_a_task": round(row["trained_weights"] / max(len(unit.tasks), 1)),
            "share": row["trained_weights"] / full["trained_weights"],
            **_differences(line_of(row), means, [draws]),
        }
    facts = {"task": target, "metric": full["metric"], "scored_on": full["scored_on"], "rows_scored": count}
    drawn = [len(one.draws) for of_line in draws.values() for one in of_line.values()]
    return {**facts, "draws": min(drawn, default=0), "rows": rows}


def _mean(targets: Sequence[Mapping[str, Any]], draws: Sequence[Draws]) -> list[Row]:
    """The mean over all targets of each line that all of them have."""
    tables = [{row["line"]: row for row in target["rows"]} for target in targets]
    lines = [line for line in tables[0] if all(line in table for table in tables)]
    found = [_mean_row(line, [table[line] for table in tables]) for line in lines]
    means = {row["line"]: row["mean"] for row in found}
    return [{**row, **_differences(row["line"], means, draws)} for row in found]


def _mean_row(line: str, rows: Sequence[Row]) -> Row:
    seeds = [seed for seed in rows[0]["seeds"] if all(seed in row["seeds"] for row in rows)]
    scores = [statistics.fmean(dict(zip(r["seeds"], r["scores"], strict=True))[seed] for r in rows) for seed in seeds]
    means = {
        key: statistics.fmean(row[key] for row in rows)
        for key in ("trained_weights", "weights_a_task", "share", "file_bytes")
    }
    return {
        **{key: rows[0][key] for key in ("kind", "method", "members") if key in rows[0]},
        "line": line,
        "seeds": seeds,
        "scores": scores,
        "mean": statistics.fmean(row["mean"] for row in rows),
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        **{key: value if key == "share" else round(value) for key, value in means.items()},
    }


def _differences(line: str, means: Mapping[str, float], draws: Sequence[Draws]) -> Row:
    """The mean difference over some tasks from full fine-tuning, and from the best other line."""
    others = [other for other in means if other not in (line, REFERENCE)]
    best = max(others, key=lambda other: means[other]) if others else None

    def against(other: str | None) -> dict[str, Any] | None:
        found = None if other is None or other == line else mean_difference([(one[line], one[other]) for one in draws])
        return None if found is None else found.to_dict()

    return {"against_full": against(REFERENCE), "best_other": best, "against_best": against(best)}


def line_of(row: Mapping[str, Any]) -> str:
    """The name of a line in the folder, as `Unit.label` gives it."""
    return f"{row['kind']}-{row['method']}" if row.get("method") else str(row["kind"])
