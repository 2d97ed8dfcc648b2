"""Claims: what each worker trains in a run's folder that several share, on one machine or on many.

A claim is a small file that names its holder. It changes hands under a lock that is held for moments. Its holder moves the
file's time on every few seconds. Another worker takes it over when the holder's process has ended, which is known on the same
machine, or when nothing of the file has changed for a minute of the other worker's own clock: no time in a file is compared with
a clock.

While ``units/adapter/a/0`` is claimed, its files are in ``units/adapter/a/.0.TOKEN``. Taking a claim over renames that folder, so
that what its former holder still writes goes nowhere; releasing it renames the folder to its place, under the lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from graftwork.experiments.running.folder import LOG, RECIPE, gone, remove
from graftwork.experiments.running.processes import has_ended, this_process
from graftwork.experiments.running.records import Shape

CLAIMS = "claims"
STALE = 60.0  # seconds without a change after which a claim may be taken over
BEAT = 10.0  # seconds between two changes
_WAIT = 30.0  # seconds that a holder waits for the lock of its own claim, which others hold for moments
_LARGEST = 1 << 16  # bytes of a claim that are read
_Token = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class ClaimLostError(Exception):
    """Another worker has taken over what this one was training. Never shown: the worker goes on with something else."""


class _Record(Shape):
    """A claim's file: its holder, and the token of the claim before, whose folder it may not have renamed yet."""

    token: _Token
    before: _Token | None
    worker: str
    machine: str
    process: int
    started: str


_RECORDS = TypeAdapter(_Record)


class Claims:
    """The claims of one worker: ``with Claims(run) as claims: claim = claims.take(...)``; at the end all are released.

    Args:
        run: The run's folder.
        stale: The seconds without a change after which a claim of another worker is taken over.
        beat: The seconds between two changes of the own ones.
        clock: Returns seconds that never go back.
    """

    def __init__(
        self, run: Path, *, stale: float = STALE, beat: float = BEAT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.run, self.stale, self.beat, self.clock = run, stale, beat, clock
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.held: dict[str, Claim] = {}
        self._seen: dict[str, tuple[object, float]] = {}  # what a claim of another was, and since when
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="graftwork-claims", daemon=True)

    def __enter__(self) -> Claims:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for claim in [*self.held.values()]:
            with contextlib.suppress(OSError, ClaimLostError):  # the process ends: others will see that
                claim.release()

    def take(
        self, name: str, at: Path | None = None, *, unless: Callable[[Path], bool] = lambda folder: False
    ) -> Claim | None:
        """Claim something; ``None`` where another worker holds it, or it needs no work.

        Args:
            name: What is claimed: the id of a unit, for example.
            at: Its folder, if it has one. Until the claim is released, its files are in `Claim.folder`.
            unless: Called with its folder: whether it needs no work any more.

        Raises:
            TrainingError: If the run's folder is gone.
        """
        file = self.file(name)
        if self._is_held(name, file):
            return None
        with self.locked(name, 0.0) as locked:
            if not locked or self._is_held(name, file) or (at is not None and unless(at)):
                return None
            before = _parsed(_read(file)[0]) if file.exists() else None
            claim = Claim(self, name, at)
            try:
                claim.put(before)
                # a network's folder may show only now that another worker was here
                if at is not None and unless(claim.folder):
                    claim.put_back()
                    return None
            except BaseException:
                file.unlink(missing_ok=True)
                raise
            self.held[name] = claim
        return claim

    def holder(self, name: str) -> str:
        """The name of the worker that holds a claim."""
        with contextlib.suppress(OSError):
            record = _parsed(_read(self.file(name))[0])
            if record is not None:
                return record.worker
        return "another worker"

    def file(self, name: str) -> Path:
        """The file of a claim."""
        return self.run / CLAIMS / f"{name}.json"

    @contextlib.contextmanager
    def locked(self, name: str, wait: float = _WAIT) -> Iterator[bool]:
        """Hold the lock of a name for moments; gives whether it could be had within so many seconds.

        Raises:
            TrainingError: If the run's folder is gone.
        """
        if not self.run.is_dir():
            raise gone(self.run)
        path = self.run / CLAIMS / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(path))
        try:
            lock.acquire(timeout=wait, poll_interval=0.01)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _is_held(self, name: str, file: Path) -> bool:
        """Whether a claim is there whose holder lives, as far as can be known yet."""
        try:
            data, moved = _read(file)
        except FileNotFoundError:
            return False
        record = _parsed(data)
        if record is not None and has_ended(record.machine, record.process, record.started):
            return False
        now, seen = self.clock(), (data, moved)
        before, since = self._seen.get(name, (None, now))
        if before != seen:
            self._seen[name] = seen, now
            return True
        return now - since <= self.stale

    def _beat(self) -> None:
        while not self._over.wait(self.beat):
            for claim in [*self.held.values()]:
                claim.beat()


class Claim:
    """What a worker holds.

    Attributes:
        name: Its name.
        at: The folder that its files belong in.
        folder: The folder that they are in while it is held.
        lost: Whether another worker has taken it over.
        former: The worker that it was taken over from.
    """

    def __init__(self, claims: Claims, name: str, at: Path | None) -> None:
        self.claims, self.name, self.at = claims, name, at
        self.token, self.lost, self._last = uuid.uuid4().hex, False, claims.clock()
        self.former: str | None = None
        self._file = claims.file(name)
        self.folder = self._folder(self.token)

    def _folder(self, token: str) -> Path:
        return self._file if self.at is None else self.at.with_name(f".{self.at.name}.{token}")

    def put(self, before: _Record | None) -> None:
        """Write the claim, then take its files over; to be called under the lock."""
        former = [] if before is None else [one for one in (before.token, before.before) if one is not None]
        places = [] if self.at is None else [self.at, *map(self._folder, former)]
        source = next((place for place in places if place.exists()), None)
        self.former = None if before is None else before.worker
        known = former[places.index(source) - 1] if source not in (None, self.at) else None
        record = {"token": self.token, "before": known, "worker": self.claims.worker, **this_process()}
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(record))
        aside.replace(self._file)  # the process may be killed from here on: the next one finds the files by `before`
        if self.at is None:
            return
        if source is None:
            self.folder.mkdir(parents=True)
        else:
            source.rename(self.folder)
        start = f".{self.at.name}."
        left = [path for path in self.at.parent.iterdir() if path.name.startswith(start) and path != self.folder]
        left = [path for path in left if len(path.name) == len(start) + len(self.token)]
        for path in [*left, *self.folder.rglob(".*.graftwork.*.new")]:  # of workers that were killed, or lost the claim
            remove(path)

    def note(self, what: str) -> None:
        """Add a line to the log in the folder, with the time and the worker."""
        with (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.claims.worker} {what}\n")

    def beat(self) -> None:
        """Show the other workers that this one lives, or find out that it has lost the claim."""
        try:
            data, moved = _read(self._file)
            record = _parsed(data)
            if record is None or record.token != self.token:
                self.lost = True
            else:
                os.utime(self._file, ns=(moved + 10**9,) * 2)  # whatever the time is
                self._last = self.claims.clock()
        except FileNotFoundError:
            self.lost = True
        except OSError:  # a network that is away for a while
            self.lost = self.lost or self.claims.clock() - self._last > self.claims.stale / 2

    def check(self) -> None:
        """Raise if the claim is lost; look again where the last look is long ago, because the process was stopped.

        Raises:
            ClaimLostError: If another worker has taken it over.
        """
        if not self.lost and self.claims.clock() - self._last > 2 * self.claims.beat:
            self.beat()
        if self.lost:
            raise ClaimLostError(f"{self.name} was taken over by {self.claims.holder(self.name)}")

    def release(self, what: str = "", *, keep: bool = True) -> None:
        """Put the files in their place, and let others have the claim.

        Args:
            what: A line for the log, if there is something to say.
            keep: Whether the files are kept.

        Raises:
            ClaimLostError: If another worker has taken it over; then nothing is put anywhere.
        """
        self.claims.held.pop(self.name, None)
        try:
            self.beat()
            self.check()
            with self.claims.locked(self.name) as locked:
                self.beat()
                self.lost |= not locked  # another worker is at it
                self.check()
                if what:
                    self.note(what)
                if self.at is not None and not keep:
                    remove(self.folder)
                self.put_back()
        except ClaimLostError:
            self._leave_nothing()
            raise

    def _leave_nothing(self) -> None:
        """Remove what was written since the claim was lost; also the folders above it, if the run's folder was deleted."""
        if self.at is None:
            return
        remove(self.folder)  # the name is this claim's own, so nobody else has files in it
        if not (self.claims.run / RECIPE).exists():
            with contextlib.suppress(OSError):  # it is not empty
                for parent in self.folder.parents:
                    if parent == self.claims.run.parent:
                        break
                    parent.rmdir()

    def put_back(self) -> None:
        """Put the files in their place and remove the claim; to be called under the lock."""
        if self.at is not None and self.folder.exists():
            self.folder.rename(self.at)
        self._file.unlink(missing_ok=True)


def _read(file: Path) -> tuple[bytes, int]:
    """The content of a claim, and its time, both of one moment; opening it makes a network's folder look anew."""
    with file.open("rb") as opened:
        return opened.read(_LARGEST), os.fstat(opened.fileno()).st_mtime_ns


def _parsed(data: bytes) -> _Record | None:
    """The record in a claim; ``None`` for one that cannot be read, whose holder is not known."""
    try:
        return _RECORDS.validate_json(data)
    except ValidationError:
        return None


def discard_claims(run: Path, but: str) -> None:
    """Remove what claims have left in the folder of a run that is done, but for the lock of one that workers still take.

    A worker that has lost a claim finds none, and writes nothing.
    """
    for path in (run / CLAIMS).glob("*"):
        if path.name != f"{but}.lock":
            remove(path)
