"""Finding folders: what is hostile or cannot be read is shown with the reason, and all others are found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import graftwork as gw
from graftwork.errors import CheckpointError
from graftwork.shelf import FolderInfo
from tests.support.saved_adapters import make_run


def listed(root: Path, tmp_path: Path, *others: Path) -> dict[str, FolderInfo]:
    found = gw.Shelf(root, *others, index=tmp_path / "index.sqlite").folders()
    return {
        one.folder.relative_to(root.resolve()).as_posix()
        if one.folder.is_relative_to(root.resolve())
        else str(one.folder): one
        for one in found
    }


@pytest.fixture
def root(saved: Path, tmp_path: Path) -> Path:
    """A folder with one adapter that is found whatever is beside it."""
    shutil.copytree(saved / "mrpc", tmp_path / "root" / "good")
    return tmp_path / "root"


def test_parts_of_a_composition_are_no_adapters_of_their_own(saved: Path, tmp_path: Path) -> None:
    found = listed(saved, tmp_path)
    assert {*found} == {path.name for path in saved.iterdir()}
    assert not any(one.damage for one in found.values())


def test_adapters_below_one_of_peft_are_found(saved: Path, tmp_path: Path) -> None:
    """peft puts an adapter that is not called "default" into a folder inside."""
    shutil.copytree(saved / "sst2-peft", tmp_path / "root")
    shutil.copytree(saved / "sst2-peft", tmp_path / "root" / "other")
    assert {*listed(tmp_path / "root", tmp_path)} == {".", "other"}


def test_in_a_run_checkpoints_are_left_out(saved: Path, root: Path, tmp_path: Path) -> None:
    make_run(root / "run", saved / "mrpc")
    found = listed(root, tmp_path)
    assert {*found} == {"good", "run/units/adapter/mrpc/0/adapter"}
    assert found["run/units/adapter/mrpc/0/adapter"].task == "mrpc"


def test_what_a_save_is_writing_is_left_out(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "good", root / ".good.graftwork.abc.1.new")
    assert {*listed(root, tmp_path)} == {"good"}


def test_a_damaged_folder_is_shown_with_the_reason(root: Path, tmp_path: Path) -> None:
    for name, file, content in (
        ("cut", "adapter.safetensors", b"\x10"),
        ("huge", "graftwork.json", b" " * (9 * 2**20)),
        ("text", "graftwork.json", b"no json"),
    ):
        shutil.copytree(root / "good", root / name)
        (root / name / file).write_bytes(content)
    found = listed(root, tmp_path)
    assert {name: one.kind for name, one in found.items()} == {
        "good": "adapter",
        **dict.fromkeys(("cut", "huge", "text"), "damaged"),
    }
    assert "cut short" in str(found["cut"].damage) and "is larger than" in str(found["huge"].damage)
    assert found == listed(root, tmp_path), "the reasons are kept in the index too"


def test_a_tree_that_is_too_deep(root: Path, tmp_path: Path) -> None:
    deep = root / "/".join(["d"] * 40)
    shutil.copytree(root / "good", deep)
    found = listed(root, tmp_path)
    assert found.pop("good").damage is None
    (only,) = found.values()
    assert "more than 32 folders below" in str(only.damage)


def test_links_do_not_lead_out(saved: Path, root: Path, tmp_path: Path) -> None:
    (root / "linked").symlink_to(saved / "mrpc")
    (root / "loop").symlink_to(root)
    (root / "nothing").symlink_to(tmp_path / "gone")
    (root / "again").symlink_to(root / "good")
    shutil.copytree(root / "good", root / "file")
    (root / "file" / "adapter.safetensors").unlink()
    (root / "file" / "adapter.safetensors").symlink_to(saved / "mrpc" / "adapter.safetensors")
    found = listed(root, tmp_path)
    assert {*found} == {"good", "linked", "file"} and found["good"].damage is None
    assert f"a link to {saved / 'mrpc'}, outside" in str(found["linked"].damage)
    assert "adapter.safetensors leads to" in str(found["file"].damage)
    assert listed(root, tmp_path, saved)["file"].damage is None, "that folder is given too"


def test_folders_that_may_not_be_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "secret").mkdir()
    shutil.copytree(root / "good", root / "closed")
    scandir, opened = os.scandir, Path.open

    def refused(path: str) -> object:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def closed(self: Path, *args: object, **options: object) -> object:
        if self.name == "adapter.safetensors" and self.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    monkeypatch.setattr(Path, "open", closed)
    found = listed(root, tmp_path)
    assert found["good"].damage is None
    assert found["secret"].damage == "it cannot be read: Permission denied"
    assert "adapter.safetensors cannot be read: Permission denied" in str(found["closed"].damage)


def test_a_device_in_the_place_of_a_file_is_not_read(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "good", root / "pipe")
    (root / "pipe" / "adapter.safetensors").unlink()
    os.mkfifo(root / "pipe" / "adapter.safetensors")
    assert "lacks adapter.safetensors" in str(listed(root, tmp_path)["pipe"].damage)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not there; give a folder"):
        gw.Shelf(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no folder is given"):
        gw.Shelf()
