"""A picture of a run for the terminal: the plan, the unit in training, the time."""

from __future__ import annotations

import statistics

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graftwork.experiments.kinds import KINDS
from graftwork.report.formatting import duration, named_score, score
from graftwork.report.progress import InHand, Progress

_AROUND = 10  # lines other than tasks
_MOST_MARKS = 3


def board(progress: Progress, console: Console) -> RenderableType:
    """The picture, no higher than the terminal."""
    parts: list[RenderableType] = [_plan(progress, console)]
    if progress.now is not None:
        parts += _in_hand(progress, progress.now)
    return Group(*parts, Text(run_line(progress)))


def run_line(progress: Progress) -> str:
    """A line with how far the run is, and how much time is left as far as that is known."""
    parts = [f"{len(progress.results)} of {len(progress.units)} done", f"{duration(progress.elapsed())} so far"]
    seconds, unknown = progress.left()
    if seconds:
        parts.append(f"at most {duration(seconds)} left")
    if unknown:
        kinds = ", ".join(dict.fromkeys(unit.label for unit in unknown))
        parts.append(f"{'and ' if seconds else ''}{len(unknown)} not known yet ({kinds})")
    return " · ".join(parts)


def _plan(progress: Progress, console: Console) -> Table:
    """A table of tasks × kinds, with a mark for each seed and the mean score of those that are done."""
    in_order = sorted(progress.units, key=lambda unit: KINDS.index(unit.kind))
    kinds = list(dict.fromkeys(unit.label for unit in in_order))
    tasks = list(dict.fromkeys(unit.task for unit in progress.units))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("task", no_wrap=True)
    for kind in kinds:
        table.add_column(kind, no_wrap=True)
    shown = _window(tasks, progress.now, console.height - _AROUND)
    for task in shown:
        table.add_row(Text(task), *[_cell(progress, kind, task) for kind in kinds])
    if len(shown) < len(tasks):
        table.add_row(Text(f"and {len(tasks) - len(shown)} more tasks", style="dim"))
    return table


def _window(tasks: list[str], now: InHand | None, room: int) -> list[str]:
    """The tasks that fit the terminal, with the one in training among them."""
    room = max(room, 2)
    if len(tasks) <= room:
        return tasks
    at = tasks.index(now.unit.task) if now is not None else 0
    start = min(max(at - room // 2, 0), len(tasks) - room)
    return tasks[start : start + room]


def _cell(progress: Progress, kind: str, task: str) -> Text:
    units = [unit for unit in progress.units if (unit.label, unit.task) == (kind, task)]
    done = [progress.results[unit.id] for unit in units if unit.id in progress.results]
    text = Text()
    if len(units) > _MOST_MARKS:
        text.append(f"{len(done)}/{len(units)}", "green" if len(done) == len(units) else "")
        units = []
    marks = (("●", "green", progress.results), ("◐", "yellow", progress.hands), ("✗", "red", progress.lost))
    for unit in units:
        text.append(*next(((mark, style) for mark, style, ids in marks if unit.id in ids), ("○", "dim")))
    if done:
        text.append(f" {score(statistics.fmean(r['score'] for r in done), done[0]['metric'])}")
    return text


def _in_hand(progress: Progress, now: InHand) -> list[RenderableType]:
    unit = now.unit
    title = Text.assemble("\n", (f"{unit.label} · {unit.task} · seed {unit.seed}", "bold"))
    if len(progress.hands) > 1:
        title.append(f"  and {len(progress.hands) - 1} more in the same pass")
    if now.resumed:
        title.append("  resumed")
    line = Table.grid(padding=(0, 1))
    if now.steps:
        epochs = progress.recipe.budget(unit.kind, unit.method).epochs
        bar = ProgressBar(now.steps, now.step, 24, style="bright_black", complete_style="green", finished_style="green")
        line.add_row(f"step {now.step} of {now.steps}", bar, f"epoch {epochs * now.step / now.steps:.1f} of {epochs}")
    else:
        line.add_row("no step yet")
    values = [] if now.loss is None else [f"loss {now.loss:.4f}"]
    if now.scores:
        since = " since it was resumed" if now.resumed else ""
        values.append(f"{named_score(now.scores[-1], now.metric)}, best{since} {score(max(now.scores), now.metric)}")
    return [title, line, Text(" · ".join(values) or "no loss yet")]
