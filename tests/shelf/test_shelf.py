"""Adapters of folders listed and found from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import graftwork as gw
from tests.support.saved_adapters import bert, make_run


@pytest.fixture
def shelf(saved: Path, tmp_path: Path) -> gw.Shelf:
    make_run(tmp_path / "run", saved / "rte", task="rte")
    return gw.Shelf(saved, tmp_path / "run", index=tmp_path / "index.sqlite")


def names(found: tuple) -> list[str]:
    return sorted(one.folder.name for one in found)


def test_adapters_are_those_that_can_be_loaded_alone(shelf: gw.Shelf) -> None:
    assert names(shelf.adapters()) == ["adapter", "mrpc", "mrpc-hub", "rte", "sst2-peft"]
    adapters = gw.attach(bert())
    loaded = [adapters.load(one.folder, f"n{number}") for number, one in enumerate(shelf.adapters())]
    assert adapters.names == tuple(loaded)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"method": "LoRA"}, ["sst2-peft"]),
        ({"method": "pfeif*"}, ["adapter", "mrpc", "rte"]),
        ({"task": "rte"}, ["adapter", "rte"]),
        ({"task": "mrpc", "method": "pfeiffer"}, ["mrpc"]),
        ({"base": "bertmodel"}, ["adapter", "base", "fusion", "mrpc", "rte", "stack", "whole"]),
        ({"base": "bert", "method": "composition"}, ["stack", "stack-hub", "whole"]),
        ({"base": "model"}, ["adapter"]),
        ({"base": "roberta"}, []),
    ],
)
def test_find(wishes: dict[str, str], expected: list[str], shelf: gw.Shelf) -> None:
    assert names(shelf.find(**wishes)) == expected


def test_find_what_fits_a_model(shelf: gw.Shelf) -> None:
    assert len(shelf.find(base=gw.attach(bert()))) == len(shelf.folders())


def test_what_is_damaged_is_listed_and_not_found(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "mrpc", tmp_path / "saved" / "mrpc")
    (tmp_path / "saved" / "mrpc" / "adapter.safetensors").unlink()
    shelf = gw.Shelf(tmp_path / "saved", index=tmp_path / "index.sqlite")
    assert [one.kind for one in shelf.folders()] == ["damaged"] and shelf.adapters() == shelf.find() == ()


def test_the_index_is_in_the_users_cache_by_default(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gw.Shelf(saved).folders()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.sqlite")] == ["graftwork/shelf.sqlite"]
