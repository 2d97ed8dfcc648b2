"""Nothing is lost and nothing is half-written, at whatever moment a save ends; other folders are left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.checkpoint import folders
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.tensors import equal
from tests.checkpoint.common import added, attached, moved


class Crash(BaseException):
    """The process ends here: nothing that follows may run."""


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def adapters() -> gw.Adapters:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), ab=gw.Pfeiffer())
    return adapters


CALLS = {"fsync": os, "rename": Path, "_exchange": folders}


@pytest.mark.parametrize("crashing", [False, True], ids=["error", "crash"])
@pytest.mark.parametrize("nth", range(5))
@pytest.mark.parametrize("call", CALLS)
def test_a_save_that_ends_anywhere(
    call: str, nth: int, crashing: bool, adapters: gw.Adapters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old or new is read afterwards, never a mixture, and the next save works."""
    folder = tmp_path / "a"
    adapters.save("a", folder)
    old = {n: t.clone() for n, t in tensors_of(adapters, "a").items()}
    moved(adapters, "a")
    new = {n: t.clone() for n, t in tensors_of(adapters, "a").items()}
    seen = 0
    real = getattr(CALLS[call], call)

    def failing(*args: object) -> object:
        nonlocal seen
        seen += 1
        if seen > nth if crashing else seen == nth + 1:
            raise Crash if crashing else OSError("no space left")
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(CALLS[call], call, failing)
        if call == "rename":  # as where two folders cannot change places in one step
            patch.setattr(folders, "_exchange", lambda *_: False)
        if crashing:  # after a crash nothing is tidied up
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        ended = True
        try:
            adapters.save("a", folder)
        except (Crash, gw.CheckpointError):
            ended = False
    _, fresh = attached()
    if folder.exists():
        fresh.load(folder)
    else:
        assert crashing
        with pytest.warns(UserWarning, match="was being replaced when the process ended"):
            fresh.load(folder)
    found = tensors_of(fresh, "a")
    assert equal(found, new) if ended else equal(found, old) or equal(found, new)
    adapters.save("a", folder)
    _, again = attached()
    again.load(folder)
    assert equal(tensors_of(again, "a"), new)
    if not crashing:
        assert [p.name for p in tmp_path.iterdir()] == ["a"], "something is left beside"


def test_a_first_save_that_ends_leaves_no_folder(
    adapters: gw.Adapters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(folders.os, "fsync", failing)
    with pytest.raises(gw.CheckpointError, match="cannot be written: no space left"):
        adapters.save("a", tmp_path / "deep" / "a")
    assert list((tmp_path / "deep").iterdir()) == []


def test_names_that_begin_alike_do_not_touch_each_other(adapters: gw.Adapters, tmp_path: Path) -> None:
    adapters.save("ab", tmp_path / "ab")
    adapters.save("ab", tmp_path / "a.b")
    before = contents(tmp_path / "ab")
    for _ in range(2):
        adapters.save("a", tmp_path / "a")
    assert contents(tmp_path / "ab") == before == contents(tmp_path / "a.b")
    assert not any(b"ab" in name.encode() for name in contents(tmp_path / "a"))


def test_a_folder_that_holds_something_else(adapters: gw.Adapters, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear diary")
    with pytest.raises(gw.CheckpointError, match=r"holds something else \(diary.txt\)"):
        adapters.save("a", tmp_path / "notes")
    (tmp_path / "file").write_text("x")
    with pytest.raises(gw.CheckpointError, match="is a file"):
        adapters.save("a", tmp_path / "file")
    assert contents(tmp_path) == {"notes/diary.txt": b"dear diary", "file": b"x"}

    adapters.save("a", tmp_path / "a")
    (tmp_path / "a" / "README.md").write_text("mine")
    (tmp_path / "a" / "adapters").mkdir()
    before = contents(tmp_path / "a")
    with pytest.raises(gw.CheckpointError, match=r"README\.md"):
        adapters.save("a", tmp_path / "a")
    assert contents(tmp_path / "a") == before


def test_one_thing_is_not_written_over_another(adapters: gw.Adapters, tmp_path: Path) -> None:
    adapters.save("a", tmp_path / "x")
    before = contents(tmp_path / "x")
    with pytest.raises(gw.CheckpointError, match="holds the adapter 'a', not the adapter 'ab'"):
        adapters.save("ab", tmp_path / "x")
    with pytest.raises(gw.CheckpointError, match="holds the adapter 'a', not the composition"):
        adapters.save(gw.Stack("a"), tmp_path / "x")
    assert contents(tmp_path / "x") == before
    adapters.save(gw.Stack("a", "ab"), tmp_path / "w")
    adapters.save(gw.Stack("ab"), tmp_path / "w")
    assert sorted(contents(tmp_path / "w")) == [
        "adapters/0/adapter.safetensors",
        "adapters/0/graftwork.json",
        "graftwork.json",
    ]


def test_the_same_weights_make_the_same_bytes(adapters: gw.Adapters, tmp_path: Path) -> None:
    adapters.save("a", tmp_path / "1")
    adapters.save("a", tmp_path / "2")
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_an_empty_folder_a_link_and_a_long_name(adapters: gw.Adapters, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    adapters.save("a", tmp_path / "empty")
    (tmp_path / "link").symlink_to(tmp_path / "empty", target_is_directory=True)
    moved(adapters, "a")
    adapters.save("a", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    long = tmp_path / ("n" * 250)
    for _ in range(2):
        adapters.save("a", long)
    for folder in ("empty", "link", long.name):
        _, fresh = attached()
        fresh.load(tmp_path / folder)
        assert equal(tensors_of(fresh, "a"), tensors_of(adapters, "a"))


def test_a_model_in_the_same_folder_is_read_by_transformers(adapters: gw.Adapters, tmp_path: Path) -> None:
    """Neither transformers nor peft takes our files for its own."""
    adapters.detach()
    adapters.model.save_pretrained(tmp_path)
    _, other = attached()
    added(other, a=gw.Pfeiffer())
    other.save("a", tmp_path / "made")
    for file in (tmp_path / "made").iterdir():
        shutil.copy(file, tmp_path)
    for cls in (hf.AutoModel, hf.AutoModelForSequenceClassification):
        model = cls.from_pretrained(tmp_path)
        assert not getattr(model, "_hf_peft_config_loaded", False)
    got = model.state_dict()
    assert all(torch.equal(got[n], t) for n, t in adapters.model.state_dict().items())
    assert gw.attach(model).load(tmp_path) == "a"


def test_peft_does_not_take_the_folder(adapters: gw.Adapters, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from transformers.utils import find_adapter_config_file

    adapters.save("a", tmp_path / "a")
    assert find_adapter_config_file(str(tmp_path / "a")) is None


def test_a_folder_that_is_filled_step_by_step_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """What raises inside leaves the old folder; one that may hold further files is replaced with them, and no other is."""
    folder = tmp_path / "made"

    def fill(*files: str, known: tuple[str, ...] = ()) -> None:
        with folders.replacing(folder, "first", known) as aside:
            aside.mkdir()
            for name in files:
                if name == "never":
                    raise KeyError(name)
                (aside / name).write_text(name)

    fill("first", "second")
    with pytest.raises(KeyError):
        fill("first", "never")
    assert contents(folder) == {"first": b"first", "second": b"second"}
    with pytest.raises(gw.CheckpointError, match=r"holds something else \(second\)"):
        fill("first")
    fill("first", "third", known=("second",))
    assert contents(folder) == {"first": b"first", "third": b"third"}
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
