"""A run while it is trained: one live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import rich.live
from rich.console import Console

from graftwork.report.board import board, run_line
from graftwork.report.data import data_table
from graftwork.report.progress import Progress
from graftwork.report.table import print_text
from graftwork.report.words import duration, named_score, printable
from graftwork.tasks import Survey
from graftwork.training.planning.plan import Unit
from graftwork.training.planning.recipe import Recipe
from graftwork.training.running.watching import Watcher

_PAUSE = 0.25  # seconds between two pictures, at least
_SHARE = 50  # and so many times what one takes: no more than 2 % of the time
_SILENCE = 5.0  # seconds without a line, at most, where there are lines
_LONG = 50  # and of a long run such a part: a log of hours stays one that can be read


class Live(Watcher):
    """Shows a run: ``with Live(recipe) as live: run(recipe, folder, watcher=live)``.

    Everything happens in the thread that trains; there is no other. A view that cannot be shown any more (the terminal is
    gone) is given up, and the training goes on.

    Args:
        recipe: The recipe of the run.
        console: Where to; by default the standard output.
        plain: Lines in a terminal too.
        clock: Gives the time in seconds.
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
        self._silent_until = 0.0  # when a line may say how far a unit is, if nothing else was to be said
        self._gone = False

    def __enter__(self) -> Live:
        """Begin to show."""
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
        """Draw the last picture, and give the terminal back as it was."""
        view, self._view = self._view, None
        if view is not None:
            with self._given_up():
                view.stop()

    def surveyed(self, surveys: Sequence[Survey]) -> None:
        """Show the data, a table in a terminal."""
        table = data_table(surveys)
        if self._view is None and self.plain:
            for line in table.text().splitlines():
                self._line(line)
        elif not self._gone:
            with self._given_up():
                self.console.print(table.rich())

    def planned(self, units: Sequence[Unit], done: Mapping[str, Mapping[str, Any]]) -> None:
        """Show the plan."""
        self.progress.planned(units, done)
        self._line(f"{len(units)} trainings, {len(done)} of them done already")
        self._draw(now=True)

    def begun(self, unit: Unit, resumed: bool) -> None:
        """Show the unit."""
        self.progress.begun(unit, resumed)
        place = [other.id for other in self.progress.units].index(unit.id) + 1
        self._line(f"{'resumed' if resumed else 'begun'} {unit.id} ({place} of {len(self.progress.units)})")
        self._draw(now=True)

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        """Count."""
        self.progress.stepped(unit, step, steps)
        if self._clock() >= self._silent_until:
            self._line(f"  {unit.id} step {step} of {steps}")
        self._draw()

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        """Show an evaluation; a loss with the next picture."""
        if self.progress.logged(unit, values) and (now := self.progress.now) is not None:
            loss = "" if now.loss is None else f", loss {now.loss:.4f}"
            budget = self.progress.recipe.budget(unit.kind, unit.method)
            scored = named_score(now.scores[-1], now.metric)
            self._line(f"  {unit.id} epoch {epoch:.0f} of {budget.epochs}: {scored}{loss}")
        self._draw()

    def ended(self, unit: Unit, result: Mapping[str, Any]) -> None:
        """Show the result."""
        self.progress.ended(unit, result)
        seconds, scored = result["timings"]["train_seconds"], named_score(result["score"], result["metric"])
        best = f"epoch {result['best_epoch']} of {result['epochs']}"
        self._line(f"ended {unit.id}: {scored} on {result['scored_on']}, {best}, {duration(seconds)}")
        self._line(f"  {run_line(self.progress)}")
        self._draw(now=True)

    def failed(self, unit: Unit, why: str) -> None:
        """Show that it failed, or is left out."""
        self.progress.failed(unit)
        self.said(f"failed {unit.id}: {why}")
        self._draw(now=True)

    def said(self, text: str) -> None:
        """Put it above the view."""
        if self._view is None:
            self._line(text)
        elif not self._gone:
            with self._given_up():
                print_text(text, self.console)

    def _draw(self, now: bool = False) -> None:
        began = self._clock()
        if self._view is None or self._gone or (began < self._next and not now):
            return
        with self._given_up():
            self._view.refresh()
        ended = self._clock()
        self._next = ended + max(_PAUSE, _SHARE * (ended - began))

    def _line(self, text: str) -> None:
        """One line without anything in it that moves a cursor, written through at once."""
        if self._view is not None or self._gone:
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
        """Hours of training do not end because nobody looks on any more: a closed pipe, a terminal that is gone."""
        try:
            yield
        except (OSError, ValueError, SystemExit):  # a closed file; and rich exits where a pipe is broken
            self._gone = True
