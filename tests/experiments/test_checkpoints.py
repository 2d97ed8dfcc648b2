"""Which checkpoint a unit goes on from: the newest that is whole, whose best one is whole too."""

from __future__ import annotations

import json
import shutil
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerState

from graftwork.experiments.running.checkpoints import Finished, last_finished


def checkpoint(folder: Path, step: int, best: int | None = None) -> Path:
    """One that was finished."""
    path = folder / f"checkpoint-{step}"
    (path / "graftwork").mkdir(parents=True)
    for name in ("optimizer.pt", "scheduler.pt", "graftwork/adapter.safetensors"):
        (path / name).write_bytes(f"{name} {step}".encode())
    (path / "trainer_state.json").write_text(json.dumps({"best_global_step": best, "log_history": []}))
    state = TrainerState(global_step=step)
    arguments: Any = types.SimpleNamespace(output_dir=folder)
    Finished().on_save(arguments, state, None)  # type: ignore[arg-type]
    return path


def test_the_newest_is_taken_and_nothing_said(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3, 3), checkpoint(tmp_path, 6, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert last_finished(tmp_path) == tmp_path / "checkpoint-6"
        assert last_finished(tmp_path / "nothing") is None


FILES = ["optimizer.pt", "scheduler.pt", "trainer_state.json", "graftwork/adapter.safetensors", "finished"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("way", ["gone", "cut", "flipped", "empty"])
def test_a_damaged_one_is_left_out_with_a_warning(tmp_path: Path, file: str, way: str) -> None:
    checkpoint(tmp_path, 3, 3)
    path = checkpoint(tmp_path, 6, 3) / file
    data = path.read_bytes()
    changed = {"cut": data[: len(data) // 2], "flipped": data[:5] + bytes([data[5] ^ 1]) + data[6:], "empty": b""}
    path.unlink() if way == "gone" else path.write_bytes(changed[way])
    if (file, way) == ("finished", "gone"):  # it was never finished, which is no news
        assert last_finished(tmp_path) == tmp_path / "checkpoint-3"
    else:
        with pytest.warns(UserWarning, match=r"checkpoint-6 is damaged, and left out; it goes on from checkpoint-3"):
            assert last_finished(tmp_path) == tmp_path / "checkpoint-3"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_without_its_best_one_a_checkpoint_is_of_no_use(tmp_path: Path) -> None:
    (checkpoint(tmp_path, 3, 3) / "optimizer.pt").unlink()
    checkpoint(tmp_path, 6, 3)
    with pytest.warns(UserWarning, match=r"checkpoint-3 is damaged, and left out; it begins anew"):
        assert last_finished(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_best_one_is_found_where_the_run_is_now(tmp_path: Path) -> None:
    checkpoint(tmp_path / "before", 3, 3)
    shutil.move(tmp_path / "before", tmp_path / "now")
    state: Any = types.SimpleNamespace(
        best_global_step=3, best_model_checkpoint=str(tmp_path / "before" / "checkpoint-3")
    )
    arguments: Any = types.SimpleNamespace(output_dir=tmp_path / "now")
    Finished().on_train_begin(arguments, state, None)  # type: ignore[arg-type]
    assert state.best_model_checkpoint == str(tmp_path / "now" / "checkpoint-3")
