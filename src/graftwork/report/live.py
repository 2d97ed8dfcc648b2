"""A view of a run while it is trained: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import rich.live
from rich.console import Console, RenderableType
from rich.text import Text

from graftwork.errors import RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.planning.recipe import Recipe
from graftwork.experiments.running.folder import read_result
from graftwork.experiments.running.listeners import Watcher
from graftwork.report.board import board, run_line
from graftwork.report.formatting import duration, named_score, printable
from graftwork.report.progress import Progress
from graftwork.report.tables import data_table
from graftwork.tasks import Survey

_PAUSE = 0.25  # the fewest seconds between two pictures
_SHARE = 50  # the fewest times that drawing one takes, so that it is no more than 2 % of the time
_SILENCE = 5.0  # the most seconds without a line, if there are lines
_LONG = 50  # or this part of a long run, so that the log of hours stays readable


class Live(Watcher):
    """A view of a run: ``with Live(recipe) as live: run(recipe, folder, watcher=live)``.

    It starts no thread. A view that can no longer be shown, because the terminal is gone, is given up, and the training
    continues.

    Args:
        recipe: The recipe of the run.
        console: Where it is shown; by default on the standard output.
        plain: Whether to write lines in a terminal too.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        recipe: Recipe,
        console: Console | None = None,
        *,
        plain: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = Console() if console is None else console
        unable = not self.console.is_terminal or self.console.is_dumb_terminal or self.console.options.ascii_only
        self.plain = plain or unable
        self.progress, self._clock = Progress(recipe, clock), clock
        self._view: rich.live.Live | None = None
        self._next = 0.0  # when the next picture may be drawn
        self._silent_until = 0.0  # when a line may say how far a unit is, if no other line was written
        self._gone = False

    def __enter__(self) -> Live:
        """Begin to show the run."""
        if not self.plain:
            self._view = rich.live.Live(
                console=self.console,
                auto_refresh=False,  # no thread of its own
                get_renderable=lambda: board(self.progress, self.console),
            )
            with self._given_up():
                self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw the last picture, and restore the terminal."""
        view, self._view = self._view, None
        if view is not None:
            with self._given_up():
                view.stop()

    def surveyed(self, surveys: Sequence[Survey]) -> None:
        table = data_table(surveys)
        self._above(table.rich(), table.text().splitlines())

    def planned(self, units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> None:
        self.progress.planned(units, done)
        self._show(f"{len(units)} trainings, {len(done)} of them done already")

    def begun(self, unit: Unit, resumed: bool) -> None:
        self.progress.begun(unit, resumed)
        place = [other.id for other in self.progress.units].index(unit.id) + 1
        self._show(f"{'resumed' if resumed else 'begun'} {unit.id} ({place} of {len(self.progress.units)})")

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        self.progress.stepped(unit, step, steps)
        due = self._clock() >= self._silent_until
        self._show(*[f"  {unit.id} step {step} of {steps}"] * due, now=False)

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        lines = []
        if self.progress.logged(unit, values) and (now := self.progress.now) is not None:  # an evaluation
            loss = "" if now.loss is None else f", loss {now.loss:.4f}"
            budget = self.progress.recipe.budget(unit.kind, unit.method)
            scored = named_score(now.scores[-1], now.metric)
            lines = [f"  {unit.id} epoch {epoch:.0f} of {budget.epochs}: {scored}{loss}"]
        self._show(*lines, now=False)

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        self.progress.ended(unit, result)
        seconds, scored = result["timings"]["train_seconds"], named_score(result["score"], result["metric"])
        best = f"epoch {result['best_epoch']} of {result['epochs']}"
        ended = f"ended {unit.id}: {scored} on {result['scored_on']}, {best}, {duration(seconds)}"
        self._show(ended, f"  {run_line(self.progress)}")

    def ended_elsewhere(self, unit: Unit, run: Path) -> None:
        with contextlib.suppress(RecipeError):  # a damaged result is said at the end
            result = read_result(unit, run)
            if result is not None:
                self.progress.ended(unit, result)
        self._show(f"ended {unit.id}, by another worker", now=False)

    def failed(self, unit: Unit, why: str) -> None:
        self.progress.failed(unit)
        self.message(f"failed {unit.id}: {why}")
        self._show()

    def message(self, text: str) -> None:
        self._above(Text(printable(text, keep="\n")), [text])

    def _above(self, shown: RenderableType, lines: Sequence[str]) -> None:
        """Print something above the view, a text without cutting it to the width; write lines if there is no view."""
        if self._view is None:
            self._show(*lines)
        elif not self._gone:
            with self._given_up():
                self.console.print(shown, soft_wrap=isinstance(shown, Text))

    def _show(self, *lines: str, now: bool = True) -> None:
        """Draw a picture in a terminal, at once or when the next one is due; write lines elsewhere."""
        if self._view is None:
            for line in lines:
                self._write(line)
            return
        began = self._clock()
        if self._gone or (began < self._next and not now):
            return
        with self._given_up():
            self._view.refresh()
        ended = self._clock()
        self._next = ended + max(_PAUSE, _SHARE * (ended - began))

    def _write(self, text: str) -> None:
        """Write and flush one line, without anything in it that moves a cursor."""
        if self._gone:
            return
        file = self.console.file
        line = printable(" ".join(text.splitlines()))
        encoding = getattr(file, "encoding", None) or "utf-8"
        with self._given_up():
            file.write(line.encode(encoding, "replace").decode(encoding) + "\n")
            file.flush()
        self._silent_until = self._clock() + max(_SILENCE, self.progress.elapsed() / _LONG)

    @contextlib.contextmanager
    def _given_up(self) -> Iterator[None]:
        """Give the view up on an error of its output, such as a closed pipe, so that the training continues."""
        try:
            yield
        except (OSError, ValueError, SystemExit):  # a closed file; and rich exits on a broken pipe
            self._gone = True
