"""The journal of a sweep stays whole when a process is killed, and the same command makes the same trials."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import graftwork as gw
from graftwork.experiments.running.claims import Claims
from graftwork.experiments.sweeping.ranges import Range, read_ranges
from graftwork.experiments.sweeping.study import JOURNAL, Study

RANGES = read_ranges({"a": "1,2", "b": "x,y"})


def ended(folder: Path, ranges: list[Range], most: int, scores: list[float]) -> list[dict[str, Any]]:
    """The trials of a sweep of which so many have ended."""
    pytest.importorskip("optuna")
    for score in scores:
        with Claims(folder) as claims:
            study = Study(folder, ranges)
            trial, claim = study.next(most, claims) or pytest.fail("there is a trial")
            for one in ranges:
                one.suggest(trial)
            study.tell(trial, score=score)
            claim.release()
    return Study(folder, ranges).rows()


def test_where_all_are_choices_every_combination_is_one_trial(tmp_path: Path) -> None:
    rows = ended(tmp_path, RANGES, 4, [0.1, 0.2, 0.3, 0.4])
    assert [row["values"] for row in rows] == [{"a": a, "b": b} for a in (1, 2) for b in "xy"]
    assert [row["trial"] for row in rows] == ["0000", "0001", "0002", "0003"]
    study = Study(tmp_path, RANGES)
    with Claims(tmp_path) as claims:
        assert study.settled(4) and study.next(4, claims) is None


def test_the_same_command_makes_the_same_trials(tmp_path: Path) -> None:
    ranges, values = read_ranges({"a": "1e-4..1e-2:log", "b": "2..64"}), []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        values.append([row["values"] for row in ended(tmp_path / name, ranges, 12, [0.1 * n for n in range(12)])])
    assert values[0] == values[1] and len({str(one) for one in values[0]}) == 12


def test_a_line_that_was_half_written_is_removed(tmp_path: Path) -> None:
    ended(tmp_path, RANGES, 4, [0.1])
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code":4,"worker_id":"')  # killed here
    rows = ended(tmp_path, RANGES, 4, [0.2])
    assert [row["score"] for row in rows] == [0.1, 0.2]


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    ended(tmp_path, RANGES, 4, [0.1])
    text = (tmp_path / JOURNAL).read_text().splitlines()
    (tmp_path / JOURNAL).write_text("\n".join(["{", *text]) + "\n")
    with pytest.raises(gw.RecipeError, match=r"journal\.jsonl is damaged"):
        Study(tmp_path, RANGES)


def test_one_that_two_processes_tell_keeps_the_first_end(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    study = Study(tmp_path, RANGES)
    with Claims(tmp_path) as claims:
        trial, _ = study.next(4, claims) or pytest.fail("there is a trial")
        study.tell(trial, score=0.5)
        study.tell(trial, why="too late")
    assert [(row["state"], row["score"], row["why"]) for row in study.rows()] == [("done", 0.5, None)]


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(gw.errors.ConfigError, match=r"pip install 'graftwork\[sweep\]'"):
        Study(tmp_path, RANGES)
