"""The trials of a sweep, kept by Optuna in a journal in the sweep's folder, which processes on several machines may share."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from graftwork.errors import ConfigError, RecipeError
from graftwork.experiments.running.claims import Claim, Claims
from graftwork.experiments.sweeping.ranges import Range, Value

JOURNAL, TRIALS = "journal.jsonl", "trials"
_STATES = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "begun", "WAITING": "begun"}
_WHY = "why"


class _Lock:
    """The lock of a journal, which the system releases when a process is killed; a line half written by one is removed."""

    def __init__(self, journal: Path) -> None:
        self.journal, self.lock = journal, FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Take the lock."""
        self.lock.acquire()
        if self.journal.is_file() and not (data := self.journal.read_bytes()).endswith(b"\n"):
            os.truncate(self.journal, data.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self.lock.release()


class Study:
    """The trials of a sweep.

    Args:
        folder: The sweep's folder.
        ranges: What it goes through.

    Raises:
        ConfigError: If Optuna is not installed.
        RecipeError: If the journal cannot be read.
    """

    def __init__(self, folder: Path, ranges: Sequence[Range]) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend, JournalStorage
        except ImportError as error:
            raise ConfigError(f"a sweep needs Optuna ({error}): pip install 'graftwork[sweep]'") from error
        self.folder, self.ranges, self._optuna = folder, ranges, optuna
        journal = folder / JOURNAL
        logging.getLogger("optuna").setLevel(logging.WARNING)  # the listeners say what happens
        try:
            self._study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=_Lock(journal))),  # type: ignore[arg-type]  # any lock
                study_name="sweep",
                direction="maximize",  # higher is better for every metric
                pruner=optuna.pruners.MedianPruner(),
                load_if_exists=True,
            )
        except (ValueError, KeyError) as error:
            raise RecipeError(f"{journal} is damaged ({error}); give another --out") from error

    @property
    def combinations(self) -> int:
        """The number of combinations of the values, where all are choices; else 0."""
        return math.prod(len(one.choices) for one in self.ranges)

    def _untried(self, trials: Sequence[Any]) -> dict[str, Value] | None:
        """The first combination of the values that no trial has."""
        keys, tried = [one.key for one in self.ranges], [one.params for one in trials]
        every = (
            dict(zip(keys, found, strict=True)) for found in itertools.product(*(one.choices for one in self.ranges))
        )
        return next((one for one in every if one not in tried), None)

    def next(self, most: int, claims: Claims) -> tuple[Any, Claim] | None:
        """A trial and its claim: one that nobody goes on with, else a new one; ``None`` if there is none to train now.

        Args:
            most: The most trials of the sweep.
            claims: The claims of this process.
        """
        with claims.locked(TRIALS) as locked:
            trials = self._study.get_trials(deepcopy=False)
            for one in trials if locked else ():
                if one.state.name == "RUNNING" and (claim := claims.take(f"{TRIALS}/{name_of(one.number)}")):
                    return self._optuna.trial.Trial(self._study, one._trial_id), claim
            waiting = [one for one in trials if one.state.name == "WAITING"]
            if not locked or len(trials) - len(waiting) >= most:
                return None
            # by the trial's number: the same command makes the same trials, and two processes none alike
            self._study.sampler = self._optuna.samplers.TPESampler(seed=len(trials), constant_liar=True)
            if most == self.combinations and not waiting and (values := self._untried(trials)) is not None:
                self._study.enqueue_trial(values)
            trial = self._study.ask()
            claim = claims.take(f"{TRIALS}/{name_of(trial.number)}")
            return None if claim is None else (trial, claim)

    def settled(self, most: int) -> bool:
        """Whether all trials have ended."""
        states = [one.state.is_finished() for one in self._study.get_trials(deepcopy=False)]
        return len(states) >= most and all(states)

    def tell(self, trial: Any, *, score: float | None = None, why: str | None = None) -> None:
        """Write down how a trial ended: with its score, with why it failed, or else pruned."""
        states = self._optuna.trial.TrialState
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):  # another process has told it
            if why is not None:
                trial.set_user_attr(_WHY, why)
            state = states.COMPLETE if score is not None else states.PRUNED if why is None else states.FAIL
            self._study.tell(trial.number, score, state=state, skip_if_finished=True)

    def reported(self, trial: Any) -> dict[int, float]:
        """The scores that a trial has reported, by step, in whichever process."""
        return dict(self._trials()[trial.number].intermediate_values)

    def known(self, trial: Any) -> float | None:
        """The score of an earlier trial with the same values, which would be that of this one too."""
        same = [t.value for t in self._trials() if t.state.name == "COMPLETE" and t.params == trial.params]
        return same[0] if same else None

    def rows(self) -> list[dict[str, Any]]:
        """Every trial: its name, its state, its score, its values and why it failed."""
        return [
            {
                "trial": name_of(one.number),
                "state": _STATES[one.state.name],
                "score": one.value if one.state.name == "COMPLETE" else None,
                "values": dict(one.params),
                "why": one.user_attrs.get(_WHY),
            }
            for one in self._trials()
        ]

    def _trials(self) -> list[Any]:
        return [*self._study.get_trials(deepcopy=False)]


def name_of(number: int) -> str:
    """The name of a trial, and of its folder."""
    return f"{number:04d}"
