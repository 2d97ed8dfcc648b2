"""A claim has one holder, whatever clocks say; one that has lost it writes nothing; what is claimed is never lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments.running.claims import Claim, ClaimLostError, Claims, discard_claims


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def worker(run: Path, clock: Any = time.monotonic) -> Claims:
    """A worker without a thread, whose claims are changed when a test says so."""
    return Claims(run, stale=60, beat=10, clock=clock)


def take(claims: Claims, at: Path) -> Claim | None:
    return claims.take("adapter/a/0", at, unless=lambda folder: (folder / "result.json").exists())


def elsewhere(claims: Claims) -> None:
    """Make a claim that of another machine, so that whether its process lives cannot be known."""
    file = claims.file("adapter/a/0")
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"}))


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "units" / "adapter" / "a" / "0"


def test_one_of_two_has_it_and_the_files_are_in_its_place_when_it_ends(tmp_path: Path, at: Path) -> None:
    one, other = worker(tmp_path), worker(tmp_path)
    claim = take(one, at)
    assert claim is not None and take(other, at) is None and other.holder("adapter/a/0") == one.worker
    (claim.folder / "weights").write_text("w")
    assert not at.exists()
    claim.release("done")
    assert (at / "weights").read_text() == "w" and one.worker in (at / "log.txt").read_text()
    assert not claim.folder.exists() and not one.file("adapter/a/0").exists()
    again = take(other, at)
    assert again is not None and (again.folder / "weights").read_text() == "w"  # it goes on with what is there
    again.release()
    (at / "result.json").write_text("{}")
    assert take(one, at) is None  # it is done


def test_many_threads_want_it_and_one_gets_it(tmp_path: Path, at: Path) -> None:
    for turn in range(20):
        place = at.with_name(str(turn))
        workers, start = [worker(tmp_path) for _ in range(8)], threading.Barrier(8)
        found: list[Claim | None] = []

        def go(claims: Claims, name: str, place: Path, start: threading.Barrier, found: list[Claim | None]) -> None:
            start.wait()
            found.append(claims.take(name, place))

        shared = f"adapter/a/{turn}", place, start, found
        threads = [threading.Thread(target=go, args=(one, *shared)) for one in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([one for one in found if one is not None]) == 1


@pytest.mark.parametrize("hours", [-1, 0, 1, 24 * 365])
def test_a_claim_is_stale_by_the_observer_s_own_clock_alone(tmp_path: Path, at: Path, hours: float) -> None:
    """The holder's machine is hours off: its file has times of the past or the future."""
    clock = Hand()
    holder, observer = worker(tmp_path), worker(tmp_path, clock)
    claim = take(holder, at)
    assert claim is not None
    (claim.folder / "checkpoint").write_text("c")
    elsewhere(holder)
    off = time.time() + 3600 * hours
    os.utime(holder.file("adapter/a/0"), (off, off))
    for _ in range(20):  # it is seen to live
        assert take(observer, at) is None
        clock.now += 30
        claim.beat()
    assert take(observer, at) is None
    clock.now += 59
    assert take(observer, at) is None
    clock.now += 2
    taken = take(observer, at)
    assert taken is not None and taken.former == holder.worker
    assert (taken.folder / "checkpoint").read_text() == "c"


def test_who_has_lost_it_notices_and_leaves_nothing(tmp_path: Path, at: Path) -> None:
    clock = Hand()
    holder, observer = worker(tmp_path), worker(tmp_path, clock)
    claim = take(holder, at)
    assert claim is not None
    elsewhere(holder)
    assert take(observer, at) is None
    clock.now += 61
    taken = take(observer, at)
    assert taken is not None
    (taken.folder / "result.json").write_text("of the other")
    claim.folder.mkdir(parents=True)  # as a Trainer does that saves a checkpoint
    (claim.folder / "result.json").write_text("of the one that was stopped")
    with pytest.raises(ClaimLostError, match="taken over by"):
        claim.release("done")
    assert not claim.folder.exists() and not at.exists()
    assert [*at.parent.iterdir()] == [taken.folder]
    taken.release("done")
    assert (at / "result.json").read_text() == "of the other"


def test_a_process_that_was_stopped_looks_before_its_next_step(tmp_path: Path, at: Path) -> None:
    clock = Hand()
    holder = worker(tmp_path, clock)
    claim = take(holder, at)
    assert claim is not None
    claim.check()
    holder.file("adapter/a/0").unlink()
    claim.check()  # within two beats it trusts its last look
    clock.now += 21
    with pytest.raises(ClaimLostError):
        claim.check()


def kill_while_taking(run: Path, at: Path, moment: int) -> None:
    """Take a claim, and be killed at its so-manyth call of the system that changes a name."""
    left, rename, replace, mkdir = [moment], Path.rename, Path.replace, Path.mkdir

    def counted(call: Any) -> Any:
        def made(self: Path, *args: Any, **options: Any) -> Any:
            if "claims" not in self.parts or call is not mkdir:  # the folders of claims are nobody's loss
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(self, *args, **options)

        return made

    Path.rename, Path.replace, Path.mkdir = counted(rename), counted(replace), counted(mkdir)  # type: ignore[method-assign]
    claim = take(worker(run), at)
    if claim is not None:
        (claim.folder / "more").write_text("m")
        claim.release()


@pytest.mark.parametrize("moment", range(4))
def test_killed_at_any_moment_of_a_change_the_files_are_there(tmp_path: Path, at: Path, moment: int) -> None:
    first = worker(tmp_path)
    claim = take(first, at)
    assert claim is not None
    (claim.folder / "checkpoint").write_text("c")
    claim.release()
    for _ in range(3):  # one after another is killed there
        process = multiprocessing.get_context("fork").Process(target=kill_while_taking, args=(tmp_path, at, moment))
        process.start()
        process.join()
        assert process.exitcode in (0, -9)
    again = take(first, at)
    assert again is not None and (again.folder / "checkpoint").read_text() == "c"
    assert [*at.parent.iterdir()] == [again.folder]


def test_what_a_killed_process_had_is_taken_at_once_on_the_same_machine(tmp_path: Path, at: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=kill_while_taking, args=(tmp_path, at, 2))
    process.start()
    process.join()
    assert process.exitcode == -9 and worker(tmp_path).file("adapter/a/0").exists()
    claim = take(worker(tmp_path), at)
    assert claim is not None and claim.former is not None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "../../../etc"}', "x" * 100_000])
def test_a_claim_that_says_nothing_is_somebody_s_until_it_is_stale(tmp_path: Path, at: Path, text: str) -> None:
    clock = Hand()
    claims = worker(tmp_path, clock)
    claims.file("adapter/a/0").parent.mkdir(parents=True)
    claims.file("adapter/a/0").write_text(text)
    assert take(claims, at) is None
    clock.now += 61
    claim = take(claims, at)
    assert claim is not None and claim.folder.is_dir()


def test_a_full_disk_leaves_no_claim(tmp_path: Path, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(self))

    claims = worker(tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        take(claims, at)
    monkeypatch.undo()
    assert take(claims, at) is not None


def test_a_full_disk_does_not_stop_the_heart(tmp_path: Path, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving a file's time needs no room."""
    claims = worker(tmp_path)
    claim = take(claims, at)
    assert claim is not None
    before = claims.file("adapter/a/0").stat().st_mtime_ns
    claim.beat()
    assert claims.file("adapter/a/0").stat().st_mtime_ns == before + 10**9 and not claim.lost


def test_a_network_that_is_away_is_a_lost_claim_before_it_is_stale(
    tmp_path: Path, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hand()
    claims = worker(tmp_path, clock)
    claim = take(claims, at)
    assert claim is not None

    def away(*args: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "utime", away)
    clock.now += 29
    claim.beat()
    assert not claim.lost
    clock.now += 2
    claim.beat()
    assert claim.lost


def test_the_folder_of_a_run_that_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    at = run / "units" / "adapter" / "a" / "0"
    run.mkdir()
    claims = worker(run)
    claim = take(claims, at)
    assert claim is not None
    shutil.rmtree(run)
    with pytest.raises(gw.TrainingError, match="is gone"):
        claims.take("adapter/a/1", at.with_name("1"))
    claim.folder.mkdir(parents=True)  # as a Trainer does that saves a checkpoint
    (claim.folder / "result.json").write_text("{}")
    with pytest.raises(ClaimLostError):
        claim.release("done")
    assert not run.exists() and tmp_path.exists()


def test_the_thread_keeps_claims_and_the_end_releases_them(tmp_path: Path, at: Path) -> None:
    with Claims(tmp_path, stale=0.3, beat=0.05) as one:
        claim = take(one, at)
        elsewhere(one)
        observer = Claims(tmp_path, stale=0.3, beat=0.05)
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert take(observer, at) is None
            time.sleep(0.02)
        assert claim is not None and not claim.lost
    assert at.is_dir() and not one.held
    discard_claims(tmp_path, "results")
    assert [*(tmp_path / "claims").iterdir()] == []
