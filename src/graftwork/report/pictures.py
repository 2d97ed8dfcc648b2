"""The plots of a run's results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from graftwork.experiments.kinds import UNIT_KINDS
from graftwork.report.attention import attention_table, attentions, heat_maps
from graftwork.report.comparison import Scores, parts
from graftwork.report.comparison_plot import comparison_plot
from graftwork.report.curves import by_task_figure, curves, kinds_of_all
from graftwork.report.formatting import kind_label, metric_label
from graftwork.report.labels import confusion_picture
from graftwork.report.picture import Picture
from graftwork.report.run_data import Gathered
from graftwork.report.score_bars import bars_caption, score_bars
from graftwork.report.sequences import caption, figures, forgetting_figure, full_colour, matrices


def pictures(found: Gathered) -> dict[str, list[Picture]]:
    """The plots of a run that have a file, by what they show, in the order of their files."""
    scored = [] if found.comparison is not None else list(found.scored)
    return {
        "comparison": list(_comparison(found)),
        "scores": [one for scores in scored for one in pictures_of_scores(found, scores)],
        "attention": list(_attention(found)),
        "labels": [confusion_picture(one, found.names(one["task"])) for one in found.known if one.get("confusion")],
        "forgetting": list(_forgetting(found)),
        "of_all_tasks": list(_of_all_tasks(found)),
        "of_each_task": list(_of_each_task(found)),
    }


def _comparison(found: Gathered) -> Iterator[Picture]:
    if found.comparison is not None:
        yield Picture("comparison", partial(comparison_plot, parts(found.comparison)))


def pictures_of_scores(found: Gathered, scores: Scores) -> Iterator[Picture]:
    """The scores of a target, or of a part of a comparison, as bars; and by the number of trained weights."""
    known = next((one for one in found.known if one["task"] == scores.task), None)
    about = f"{scores.task or 'all targets'}: scores"
    bars = partial(score_bars, scores.rows, scores.metric, known, about)
    yield Picture(f"scores-{scores.task}", bars, scores.title, bars_caption(known))
    if len(scores.rows) > 1 and any(row["weights_a_task"] for row in scores.rows):
        text = "Score by trained weights a task, the head with them; where there are several seeds, with their sd."
        yield Picture(f"weights-{scores.task}", partial(comparison_plot, [scores]), scores.title, text)


def _attention(found: Gathered) -> Iterator[Picture]:
    looks = attentions(found.results, found.recipe.targets)
    for name in dict.fromkeys(one.name for one in looks):
        seen = [one for one in looks if one.name == name]
        for one in seen:
            draw = partial(heat_maps, [one])
            yield Picture(f"{name}-{one.target}", draw, one.heading, one.caption, table=attention_table(one))
        if len(seen) > 1:
            yield Picture(name, partial(heat_maps, seen))


def _forgetting(found: Gathered) -> Iterator[Picture]:
    seen = matrices(found.results)
    for one in seen:
        yield Picture(f"forgetting-{one.kind}", partial(forgetting_figure, [one]))
    if seen:
        notes = tuple(f"{one.title}: {'; '.join(figure for figure, _ in figures(one))}" for one in seen)
        name, title = "forgetting" if len(seen) > 1 else "", "What is forgotten, task after task"
        yield Picture(name, partial(forgetting_figure, seen), title, caption(full_colour(seen)), notes)


def _of_all_tasks(found: Gathered) -> Iterator[Picture]:
    for label, units in kinds_of_all(found.results["units"]).items():
        title = kind_label(units[0]["kind"], 0, units[0].get("method", ""))
        x, dotted = "epoch", "; the epoch that was kept is dotted"
        if "sequence" in units[0]:
            x, dotted = "tasks learnt", ""
        text = _caption(units, f"the score of each task by {x}{dotted}")
        draw = partial(by_task_figure, units, f"all tasks: {title}")
        yield Picture(f"tasks-{label}", draw, f"All tasks: {title}", text)


def _of_each_task(found: Gathered) -> Iterator[Picture]:
    for task in dict.fromkeys(unit.task for unit in found.units if not UNIT_KINDS[unit.kind].of_all):
        units = [unit for unit in found.results["units"] if unit["task"] == task]
        if units:
            kind = units[0]["kind"]
            what = "its trainings" if task in found.recipe.targets else "a source" if kind == "adapter" else kind
            title, metrics = f"{task}: {what}", ", ".join(sorted({metric_label(unit["metric"]) for unit in units}))
            text = _caption(units, f"{metrics} on the dev rows; the best epoch is dotted")
            yield Picture(f"curves-{task}", partial(curves, units, title), title, text)


def _caption(units: Sequence[Mapping[str, Any]], scores: str) -> str:
    """The caption of a plot of curves, with or without losses."""
    if any(unit["curves"]["loss"] for unit in units):
        return f"Left the loss, right {scores}."
    return f"{scores[0].upper()}{scores[1:]}."
