"""What the kept predictions say of each target: how sure a difference is, the confusion of labels, the rows that changed.

The rows are read anew from the recipe's data, and what was found is kept in the run's folder: there it can be read when the
data are gone.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftwork.errors import GraftworkError
from graftwork.experiments.comparing.bootstrap import FEWER, Resampling, mean_difference
from graftwork.experiments.comparing.compare import draws_of, line_of, resamplings, rows_in
from graftwork.experiments.comparing.evidence_record import MOST_CHANGED, MOST_LABELS, MOST_TEXT, Evidence
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.plan import plan
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import read_predictions, root_of, write_json
from graftwork.experiments.running.records import read_record
from graftwork.experiments.running.run import read_tasks
from graftwork.tasks import Prediction, Task
from graftwork.tasks.scoring import find_metric
from graftwork.tasks.scoring.labels import LABEL
from graftwork.tasks.scoring.registry import metrics

FILE = "evidence.json"
_FEW = 300  # draws of a metric that is computed anew for each: a report does not take minutes
# What a report is about: the first of these that was trained for a target, else its first line that is no reference.
_SUBJECTS = ("fusion", "fusion_mt", "scalearn", "route", "arrow")
_REFERENCES = ("adapter", "full", "head")  # the first of these, else the best of all others
_LEVEL = (0.025, 0.975)
# What was answered and what is right for each row, by seed; and that by line.
OfSeeds = dict[int, list[tuple[Any, Any]]]
Answers = dict[str, OfSeeds]


def read_evidence(run: Path, results: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of a run's ``evidence.json``; ``None`` where there is none, or it is of other results.

    Raises:
        RecipeError: If it is damaged.
    """
    if not (run / FILE).is_file():
        return None
    found: dict[str, Any] = read_record(run / FILE, Evidence)
    return found if found["units"] == _scores(results) else None


def settled_evidence(run: Path, recipe: Recipe, results: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """What `read_evidence` gives, made and kept where it is missing; and why there is none, if so.

    Raises:
        RecipeError: If a file of the run is damaged.
    """
    found = read_evidence(run, results)
    if found is not None or not results["targets"]:
        return found, ""
    try:
        found = evidence(run, recipe, results, read_tasks(recipe, root_of(run)))
    except (GraftworkError, OSError) as error:
        return None, " ".join(str(error).split())
    with contextlib.suppress(OSError):  # of a folder that can only be read
        write_json(run / FILE, found)
    return found, ""


def evidence(run: Path, recipe: Recipe, results: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """The content of ``evidence.json``, see `Evidence`.

    Args:
        run: The run's folder, with the predictions of its units.
        recipe: The recipe.
        results: The content of ``results.json``.
        tasks: The recipe's tasks, read.

    Raises:
        RecipeError: If predictions cannot be read.
    """
    units = {(u.kind, u.method, target, u.seed): u for u in plan(recipe) for target in (u.task, *u.tasks)}
    targets = []
    for number, target in enumerate(recipe.targets):
        rows = [row for row in results["targets"] if row["task"] == target]
        if rows:
            targets.append(_target(tasks[target], rows, units, run, number))
    return {"format": 1, "units": _scores(results), "targets": targets}


def _target(
    task: Task, rows: Sequence[Mapping[str, Any]], units: Mapping[Any, Unit], run: Path, number: int
) -> dict[str, Any]:
    resample = resamplings(task, sorted({seed for row in rows for seed in row["seeds"]}), rows[0]["scored_on"], number)
    for one in resample.values():
        one.draws = _FEW if one.draws == FEWER else one.draws
    draws = draws_of(rows, units, run, resample)
    subject, control = _chosen(rows)
    lines = []
    for row in rows:
        line, of_seeds = line_of(row), [one.draws for one in draws[line_of(row)].values()]
        low, high = np.quantile(np.mean(of_seeds, axis=0), _LEVEL).tolist() if of_seeds else (None, None)
        gap = None if line == subject else mean_difference([(draws[subject], draws[line])])
        lines.append({"line": line, "low": low, "high": high, "against": gap and gap.to_dict()})
    seeds = [seed for seed in draws[subject] if control is None or seed in draws[control]]
    answers: Answers = {}
    for row in rows:
        if (line := line_of(row)) in (subject, control):
            for seed in seeds:
                unit = units[row["kind"], row.get("method", ""), task.name, seed]
                kept = read_predictions(unit.folder(run))[task.name]
                pairs = task.kind.pairs([Prediction(value) for value in kept], resample[seed].rows)
                answers.setdefault(line, {})[seed] = list(zip(*pairs, strict=True))
    return {
        "task": task.name,
        "metric": task.metric,
        "scored_on": rows[0]["scored_on"],
        "rows_scored": rows_in(resample),
        "folds": len(task.folds),
        "draws": min((one.draws for one in resample.values()), default=0),
        "subject": subject,
        "control": control,
        "seeds": seeds,
        "by_seed": [draws[subject][seed].score - draws[control][seed].score for seed in seeds] if control else [],
        "lines": lines,
        **_confusion(task, answers),
        **(_changes(task, answers[subject], answers[control], resample) if control and seeds else {}),
    }


def _chosen(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str | None]:
    """The line that a report is about, and the one that it is compared with first."""
    lines = {line_of(row): row for row in rows}
    others = [line for line in lines if line not in ("full", "head", "zero_shot")]
    subject = next((line for line in _SUBJECTS if line in lines), [*others, *lines][0])
    rest = [line for line in lines if line != subject]
    best = max(rest, key=lambda line: lines[line]["mean"]) if rest else None
    return subject, next((line for line in _REFERENCES if line in rest), best)


def _confusion(task: Task, answers: Answers) -> dict[str, Any]:
    """How often each label (row) was answered by each (column), over all seeds; none without labels."""
    labels = list(task.labels)
    if task.kind.form != LABEL or not answers or len(labels) > MOST_LABELS:
        return {}
    confusion = {}
    for line, of_seeds in answers.items():
        counts = Counter(pair for pairs in of_seeds.values() for pair in pairs)
        confusion[line] = [[counts[answer, right] for answer in labels] for right in labels]
    return {"labels": labels, "confusion": confusion}


def _changes(task: Task, after: OfSeeds, before: OfSeeds, resample: Mapping[int, Resampling]) -> dict[str, Any]:
    """How many rows became right and wrong from one training to another, in most of the seeds; and the first of each.

    Seeds that have scored the same rows, which with folds are those of a fold, are counted together.
    """
    right = _right(task)
    if right is None:
        return {}
    parts = {id(resample[seed].rows): resample[seed].rows for seed in after}
    found, start = [], 0
    for part, rows in parts.items():
        seeds = [seed for seed in after if id(resample[seed].rows) == part]
        for n, row in enumerate(rows):
            pairs = [[side[seed][n] for seed in seeds] for side in (before, after)]
            was, now = (2 * sum(right(*pair) for pair in side) > len(seeds) for side in pairs)
            if was != now:
                shown = [_commonest([value for value, _ in side]) for side in pairs]
                what = {"text": _text(task, row), "gold": _shown(pairs[0][0][1]), "before": shown[0], "after": shown[1]}
                found.append({"row": start + n, **what, "better": now})
        start += len(rows)
    gained, lost = ([one for one in found if one["better"] is side] for side in (True, False))
    return {"gained": len(gained), "lost": len(lost), "changed": [*gained[:MOST_CHANGED], *lost[:MOST_CHANGED]]}


def _right(task: Task) -> Callable[[Any, Any], bool] | None:
    """Whether one answer is right, for tasks whose answers are right as a whole; ``None`` for others."""
    form = task.kind.form
    if form not in metrics["accuracy"].forms:
        return None
    accuracy = find_metric("accuracy", form, task.name)
    return lambda value, answer: accuracy([value], [answer]) == 1.0


def _text(task: Task, row: Mapping[str, Any]) -> str:
    """The texts of a row in a line; empty where it has none, such as an image."""
    columns = dict.fromkeys([*task.kind.columns(task.spec, train=False), task.spec.pair])
    values = [row.get(name) for name in columns if name]
    texts = [" / ".join(map(str, value)) if isinstance(value, list) else value for value in values]
    return _shown("  |  ".join(one for one in texts if isinstance(one, str)))


def _commonest(values: Sequence[Any]) -> str:
    return Counter(map(_shown, values)).most_common(1)[0][0]


def _shown(value: Any) -> str:
    """A value as a short line of text."""
    text = " ".join((", ".join(map(str, value)) if isinstance(value, list) else str(value)).split())
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def _scores(results: Mapping[str, Any]) -> dict[str, float]:
    return {unit["unit"]: unit["score"] for unit in results["units"]}
