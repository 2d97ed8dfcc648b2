"""The task of a text, found by what a run has trained: how often it is right, and what it refuses.

    graftwork run recipe.toml --out runs/several
    python examples/found_tasks.py runs/several

The dev rows of each task of the run, which its finder has not seen, and texts that belong to none of them: the prompts written by
hand for this project (`data/prompts.json`), those without any task there and those that ask for one (a translation, say).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import transformers

from graftwork.experiments.running.finder import text_of
from graftwork.experiments.running.folder import root_of
from graftwork.experiments.running.run import read_tasks
from graftwork.inference import Found, RunFinder
from graftwork.report.table import Table

PROMPTS = Path(__file__).parent / "data" / "prompts.json"
MARGINS = (0.0, 0.1, 0.2, 0.4, 0.6)


def main() -> None:
    """Print two tables: every task at the default margin, and all of them at others."""
    run = Path(arguments().run)
    transformers.logging.set_verbosity_error()
    finder = RunFinder(run)
    tasks = read_tasks(finder.recipe, root_of(run))
    written = json.loads(PROMPTS.read_text(encoding="utf-8"))
    texts = {name: [text_of(tasks[name].kind, row) for row in tasks[name].dev] for name in finder.tasks}
    strange = {
        "prompts of no task": written["off_topic"],
        "prompts of other tasks": [text for task in written["tasks"].values() for text in task["ask"]],
    }
    default, by_margin = finder.margin, {}
    for margin in sorted({*MARGINS, default}):
        finder.margin = margin
        by_margin[margin] = {name: finder.find(some) for name, some in {**texts, **strange}.items()}
    print(by_task(by_margin[default], finder.tasks, default).markdown())
    print(margins(by_margin, finder.tasks).markdown())


def by_task(found: Mapping[str, Sequence[Found]], tasks: Sequence[str], margin: float) -> Table:
    """A row for the texts of each task, then one for each group of texts of none."""
    rows = [[name, *counted(some, name if name in tasks else None)] for name, some in found.items()]
    return Table(f"The task of a text, at the margin {margin:g}", ["texts", *COLUMNS], rows, [])


def margins(by_margin: Mapping[float, Mapping[str, Sequence[Found]]], tasks: Sequence[str]) -> Table:
    """A row a margin: the dev rows of all tasks, and what is refused of the other texts."""
    rows = []
    for margin, found in by_margin.items():
        own = [(name, one) for name in tasks for one in found[name]]
        taken = [(name, one) for name, one in own if one.name is not None]
        right = sum(one.name == name for name, one in taken)
        nearest = sum(one.candidates[0][0] == name for name, one in own)
        others = [refused(some) for name, some in found.items() if name not in tasks]
        cells = [share(nearest, len(own)), share(right, len(taken)), share(len(own) - len(taken), len(own)), *others]
        rows.append([f"{margin:g}", *cells])
    groups = [f"{name}, refused" for name in next(iter(by_margin.values())) if name not in tasks]
    columns = ["margin", "best score right", "right of those answered", "own rows refused", *groups]
    return Table("All tasks, at other margins", columns, rows, [])


COLUMNS = ("count", "best score right", "right", "wrong", "refused")


def counted(found: Sequence[Found], task: str | None) -> list[str]:
    """How many texts of a task, or of none, were answered rightly, wrongly and not at all."""
    answered = [one for one in found if one.name is not None]
    right = sum(one.name == task for one in answered)
    nearest = sum(one.candidates[0][0] == task for one in found)
    best = "" if task is None else share(nearest, len(found))
    return [str(len(found)), best, str(right) if task else "", str(len(answered) - right), refused(found)]


def refused(found: Sequence[Found]) -> str:
    """How many are refused."""
    return f"{sum(one.name is None for one in found)} of {len(found)}"


def share(part: int, whole: int) -> str:
    """A share in percent."""
    return f"{part / whole:.1%}" if whole else "none"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a run of several tasks of text")
    return parser.parse_args()


if __name__ == "__main__":
    main()
