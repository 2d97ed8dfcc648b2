"""The index: shared by processes, never in the way when it is damaged, and only as much work as there are changes."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import graftwork as gw
from graftwork.shelf import index as index_file
from graftwork.shelf import shelf as shelf_file
from graftwork.shelf.index import Index
from tests.support.saved_adapters import make_many

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")
FORK = multiprocessing.get_context("fork" if os.name == "posix" else None)


@pytest.fixture
def many(saved: Path, tmp_path: Path) -> Path:
    return make_many(tmp_path / "many", saved / "mrpc", 30)


def names(folder: Path, index: Path) -> list[str]:
    return sorted(one.name for one in gw.Shelf(folder, index=index).folders())


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders that are read, in order."""
    read: list[str] = []
    inspect = shelf_file.inspect

    def noted(folder: Path) -> object:
        read.append(folder.name)
        return inspect(folder)

    monkeypatch.setattr(shelf_file, "inspect", noted)
    return read


def test_only_what_is_new_or_changed_is_read(many: Path, tmp_path: Path, looked_at: list[str]) -> None:
    index = tmp_path / "index.sqlite"
    first = gw.Shelf(many, index=index).folders()
    assert len(first) == len(looked_at) == 30
    looked_at.clear()
    assert gw.Shelf(many, index=index).folders() == first and looked_at == []

    shutil.copytree(many / "000" / "a1", many / "000" / "new")
    shutil.rmtree(many / "000" / "a2")
    (many / "000" / "a3" / "adapter.safetensors").write_bytes(b"cut")
    again = gw.Shelf(many, index=index).folders()
    assert sorted(looked_at) == ["a3", "new"] and len(again) == 30
    assert [one.folder.name for one in again if one.damage is not None] == ["a3"]
    looked_at.clear()
    assert names(many, index) == sorted(one.name for one in again) and looked_at == []
    with sqlite3.connect(index) as database:
        assert database.execute("SELECT count(*) FROM folders").fetchone() == (30,), "the removed one is forgotten"


def test_a_folder_replaced_by_one_of_the_same_size_and_time_is_seen(
    many: Path, tmp_path: Path, looked_at: list[str]
) -> None:
    names(many, tmp_path / "index.sqlite")
    looked_at.clear()
    for path in (many / "000" / "a4").iterdir():
        was = path.stat()
        (many / "aside").write_bytes(path.read_bytes())
        os.utime(many / "aside", ns=(was.st_atime_ns, was.st_mtime_ns))
        (many / "aside").rename(path)
    names(many, tmp_path / "index.sqlite")
    assert looked_at == ["a4"]


def test_other_folders_stay_in_the_index(many: Path, saved: Path, tmp_path: Path, looked_at: list[str]) -> None:
    """A look at one folder forgets nothing of another, also of one whose name begins alike."""
    index, beside = tmp_path / "index.sqlite", Path(shutil.copytree(saved / "mrpc", tmp_path / "many-more" / "x"))
    names(many, index)
    names(beside.parent, index)
    looked_at.clear()
    names(many, index)
    names(beside.parent, index)
    assert looked_at == []


def write_garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    draw = random.Random(0)
    for _ in range(2000):
        data[draw.randrange(100, len(data))] = draw.randrange(256)
    path.write_bytes(data)


def other_columns(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE folders")
        database.execute("CREATE TABLE folders (something INTEGER)")


def junk_records(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE folders SET record = '{\"folder\": 3}'")


def another_version(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("damage", [write_garbage, cut, scramble, other_columns, junk_records, another_version])
def test_a_damaged_index_is_made_anew(
    damage: Callable[[Path], None], many: Path, tmp_path: Path, looked_at: list[str]
) -> None:
    index = tmp_path / "index.sqlite"
    expected = names(many, index)
    damage(index)
    assert names(many, index) == expected
    looked_at.clear()
    assert names(many, index) == expected and looked_at == [], "it is whole again"


def test_an_index_that_cannot_be_written_is_done_without(many: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    for index in (tmp_path / "folder", tmp_path / "file" / "index.sqlite"):
        assert len(names(many, index)) == 30
    assert (tmp_path / "folder").is_dir()


def test_an_index_that_another_process_holds_is_done_without(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index.sqlite"
    names(many, index)
    monkeypatch.setattr(index_file, "_WAIT", 0.1)
    holder = sqlite3.connect(index, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert len(names(many, index)) == 30
        assert index.is_file(), "what is only in use is not removed"
    finally:
        holder.close()


def _list_often(folder: Path, index: Path, times: int, failed: Path) -> None:
    for _ in range(times):
        found = gw.Shelf(folder, index=index).folders()
        if len(found) < 30 or any(one.damage for one in found):
            failed.touch()


def test_processes_that_index_the_same_folders_at_once(many: Path, tmp_path: Path) -> None:
    """Two list the same folders while others are added: both see all, and the index is whole."""
    index, failed = tmp_path / "index.sqlite", tmp_path / "failed"
    started = [FORK.Process(target=_list_often, args=(many, index, 15, failed)) for _ in range(2)]
    for process in started:
        process.start()
    for number in range(20):
        shutil.copytree(many / "000" / "a1", tmp_path / "aside")
        (tmp_path / "aside").rename(many / f"more{number}")
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0] and not failed.exists()
    assert len(names(many, index)) == 50
    with sqlite3.connect(index) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM folders").fetchone() == (50,)


def _write_for_ever(path: Path) -> None:
    index = Index(path)
    for number in range(10**6):
        index.write({f"/elsewhere/{number % 50}/{n}": (str(number), "x" * 2000) for n in range(200)}, ())


def test_killed_processes_leave_a_whole_index(many: Path, tmp_path: Path, looked_at: list[str]) -> None:
    index = tmp_path / "index.sqlite"
    expected = names(many, index)
    draw = random.Random(0)
    for _ in range(20):
        process = FORK.Process(target=_write_for_ever, args=(index,))
        process.start()
        time.sleep(0.02 + 0.1 * draw.random())
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        looked_at.clear()
        assert names(many, index) == expected and looked_at == []
    with sqlite3.connect(index) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT count(*) FROM folders WHERE path LIKE '/elsewhere/%'").fetchone()[0]
        assert rows % 200 == 0, "each write was whole or none"
