"""One worker of a run: it takes the units that can be trained now, beside any number of others, until all are settled."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import LostRankError, RecipeError
from graftwork.experiments.kinds import Unit
from graftwork.experiments.running import folder as files
from graftwork.experiments.running.claims import Claim, ClaimLostError, Claims
from graftwork.experiments.running.folder import remove, write_error
from graftwork.experiments.running.joint_pass import pass_folder, train_apart, train_in_one_pass, units_in_one_pass
from graftwork.experiments.running.listeners import Watcher
from graftwork.experiments.running.measuring import Result
from graftwork.experiments.running.provenance import clean, dependencies, misfits, read_made_with
from graftwork.experiments.running.run_context import RunContext
from graftwork.experiments.running.unit import run_unit
from graftwork.training.together import CHECKPOINT

_SOONEST, _LATEST = 0.05, 2.0  # seconds between two looks at what others do
Train = Callable[[Unit, RunContext, Watcher], Result]


def pauses() -> Iterator[float]:
    """Seconds to wait until the next look at what others do, longer and longer."""
    pause = _SOONEST
    while True:
        yield pause
        pause = min(2 * pause, _LATEST)


def errors(units: Sequence[Unit], run: Path) -> dict[str, bytes]:
    """What is written down of units that failed, by their ids: a worker that knows it tries them again."""
    found = {unit.id: _error(unit.folder(run)) for unit in units}
    return {unit: text for unit, text in found.items() if text is not None}


def _error(folder: Path) -> bytes | None:
    try:
        return (folder / files.ERROR).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


class Worker:
    """A worker: ``Worker(...).train()`` returns when every unit is done, failed or left out, whoever trained it.

    Args:
        units: All units of the run, each after those that it needs.
        done: The ids of those that are done.
        context: The context that they are trained in.
        claims: The claims of this worker.
        watcher: The listener of the run.
        tried: What was written down of units that failed before: these are tried again.
        train: Trains one unit, and writes its result into its folder; by default `run_unit`.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        done: Mapping[str, Any],
        context: RunContext,
        claims: Claims,
        watcher: Watcher,
        tried: Mapping[str, bytes],
        train: Train | None = None,
    ) -> None:
        self.units, self.context, self.claims, self.watcher = units, context, claims, watcher
        self.tried, self.train_one = tried, train or run_unit
        self.done = {*done}
        self.failed: dict[str, str] = {}
        self._names = [unit.id for unit in units]  # a name is put together each time
        self._folders = [unit.folder(context.run) for unit in units]
        planned = {*self._names}
        self._needs = [[n for m in dependencies(unit, context) if (n := m.id) in planned] for unit in units]

    def train(self) -> dict[str, str]:
        """Train what no other worker trains, until all is settled; returns what failed or was left out, and why.

        Raises:
            RecipeError: If no training can succeed.
            OSError: If nothing can be written.
            TrainingError: If the run's folder is gone.
        """
        waits = pauses()
        while True:
            if not (self.context.run / files.RECIPE).is_file():
                raise files.gone(self.context.run)
            before, waiting, trained = len(self.done) + len(self.failed), False, False
            for number, unit in enumerate(self.units):
                name = self._names[number]
                if name in self.done or name in self.failed or self._settled(number):
                    continue
                if self._has_all(number):
                    trained |= self._take(unit)
                waiting |= name not in self.done and name not in self.failed
            if not waiting:
                return {name: self.failed[name] for name in self._names if name in self.failed}
            if trained or before < len(self.done) + len(self.failed):
                waits = pauses()
            else:
                time.sleep(next(waits))

    def _has_all(self, number: int) -> bool:
        """Whether all that a unit depends on is done."""
        return all(one in self.done for one in self._needs[number])

    def _settled(self, number: int) -> bool:
        """Whether a unit needs no training any more, because of what it depends on or what others have done."""
        name, folder = self._names[number], self._folders[number]
        lacking = next((one for one in self._needs[number] if one in self.failed), None)
        if lacking is not None:
            self._fail(self.units[number], f"left out, because it depends on {lacking}")
        elif not self._has_all(number):
            return False
        elif (folder / files.RESULT).is_file():
            self.done.add(name)
            self.watcher.ended_elsewhere(self.units[number], self.context.run)
        elif (error := self._new_error(name, folder)) is not None:
            self._fail(self.units[number], error.decode("utf-8", "replace").partition("\n")[0])
        return name in self.done or name in self.failed

    def _new_error(self, name: str, folder: Path) -> bytes | None:
        error = _error(folder)
        return None if error == self.tried.get(name) else error

    def _fail(self, unit: Unit, why: str) -> None:
        self.failed[unit.id] = why
        self.watcher.failed(unit, why)

    # -- a training ------------------------------------------------------------------------------------------------

    def _take(self, unit: Unit) -> bool:
        """Train a unit, or the pass that it is in, if no other worker does; returns whether it was tried."""
        others = [one for one in self.units if one.id not in self.failed]
        joined = units_in_one_pass(unit, others, self.done, self.context, self.claims)
        with self._taken(joined) as claims:
            if claims is None:
                return False
            watcher = _Checking(self.watcher, [*claims.values()])
            try:
                self._begin(joined, claims)
                if len(joined) > 1:
                    self._train_together(joined, claims, watcher)
                else:
                    self._end(unit, claims[unit.id], self.train_one(unit, self.context, watcher))
                return True
            except Exception as error:
                lost = [claim for claim in claims.values() if self._is_lost(claim)]
                if isinstance(error, LostRankError):
                    if not lost:
                        self._note_failure(joined, claims, error)
                    raise
                if lost:
                    self.watcher.message(f"{lost[0].name} was taken over by {self.claims.holder(lost[0].name)}")
                elif isinstance(error, (OSError, RecipeError)):
                    raise  # no other training would succeed either
                else:
                    self._note_failure(joined, claims, error)
        gc.collect()  # what the error's traceback kept alive, memory of an accelerator too
        return True

    def _is_lost(self, claim: Claim) -> bool:
        if claim.name in self.claims.held:
            claim.beat()
        return claim.lost

    @contextlib.contextmanager
    def _taken(self, units: Sequence[Unit]) -> Iterator[dict[str, Claim] | None]:
        """The claims of all of some units, and of their pass; ``None`` where one cannot be had. At the end all are released."""
        claims: dict[str, Claim] = {}
        wanted = {name: unit.folder(self.context.run) for unit in units if (name := unit.id) not in self.done}
        if len(units) > 1:
            at = pass_folder(units, self.context.run)
            wanted[_pass_name(units)] = at
        try:
            for name, at in wanted.items():
                claim = self.claims.take(name, at, unless=functools.partial(self._needs_none, name))
                if claim is None:
                    break
                claims[name] = claim
                self.context.held[name] = claim.folder
            yield claims if claims and len(claims) == len(wanted) else None
        finally:
            for name, claim in claims.items():
                self.context.held.pop(name, None)
                if name in self.claims.held:
                    with contextlib.suppress(ClaimLostError, OSError):
                        claim.release()

    def _needs_none(self, name: str, folder: Path) -> bool:
        return (folder / files.RESULT).is_file() or self._new_error(name, folder) is not None

    def _begin(self, units: Sequence[Unit], claims: Mapping[str, Claim]) -> None:
        """Say in the logs who begins; what another worker began with other rows, or another base, is begun anew."""
        for claim in claims.values():
            again = "goes on" if (claim.folder / files.LOG).exists() else "begins"
            claim.note(again if claim.former is None else f"takes over from {claim.former}")
        for unit in units:
            record = read_made_with(claims[unit.id].folder) if unit.id in claims else None
            if record is not None and misfits(unit, self.context, record):
                clean(claims[unit.id].folder)
                if len(units) > 1:
                    remove(claims[_pass_name(units)].folder / CHECKPOINT)

    def _train_together(self, units: Sequence[Unit], claims: Mapping[str, Claim], watcher: Watcher) -> None:
        shared = claims[_pass_name(units)]
        for unit, result in train_in_one_pass(units, {*self.done}, self.context, watcher, shared.folder):
            self._end(unit, claims[unit.id], result)
        shared.release(keep=False)

    def _end(self, unit: Unit, claim: Claim, result: Result) -> None:
        """Put the files of a unit in their place: from here on it is done."""
        claim.release("done")
        self.context.held.pop(unit.id, None)
        self.done.add(unit.id)
        self.watcher.ended(unit, result)

    def _note_failure(self, units: Sequence[Unit], claims: Mapping[str, Claim], error: Exception) -> None:
        why = f"{type(error).__name__}: {error}".strip(": ")
        if len(units) > 1:
            names = ", ".join(one.id for one in units)
            self.watcher.message(f"{names}: their pass failed ({why}); each is trained by itself")
            train_apart(units, self.context.run)
            claims[_pass_name(units)].release(keep=False)
            return
        claim = claims[units[0].id]
        if not (claim.folder / files.ERROR).exists():  # another rank of this worker may have failed first
            told = "".join(traceback.format_exception(error))
            write_error(claim.folder, why, f"{told}\nin {claim.claims.worker}, claim {claim.token}\n")
        claim.release(f"failed: {why.splitlines()[0]}")
        self._fail(units[0], why)


def _pass_name(units: Sequence[Unit]) -> str:
    """The name of the claim of a pass; that of a unit has a part more."""
    return f"together/{units[0].task}-{units[0].seed}"


class _Checking(Watcher):
    """Passes on what happens, and ends a training whose claim is lost."""

    def __init__(self, watcher: Watcher, claims: Sequence[Claim]) -> None:
        self.watcher, self.claims = watcher, claims

    def _check(self) -> None:
        for claim in self.claims:
            if claim.name in claim.claims.held:
                claim.check()

    def begun(self, unit: Unit, resumed: bool) -> None:
        self._check()
        self.watcher.begun(unit, resumed)

    def stepped(self, unit: Unit, step: int, steps: int) -> None:
        self._check()
        self.watcher.stepped(unit, step, steps)

    def logged(self, unit: Unit, epoch: float, values: Mapping[str, float]) -> None:
        self._check()
        self.watcher.logged(unit, epoch, values)

    def message(self, text: str) -> None:
        self.watcher.message(text)
