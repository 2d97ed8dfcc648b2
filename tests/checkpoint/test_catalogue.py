"""Adapters on disk that are loaded when a composition names them, and leave again."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.checkpoint.json_files import MANIFEST
from tests.support.attached import lively, output, with_adapters

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Five adapters, a LoRA in peft's format and a fusion of two, with the output of each."""
    folder = tmp_path_factory.mktemp("tasks")
    configs: dict[str, Any] = {name: gw.Pfeiffer(reduction_factor=4) for name in NAMES}
    model, adapters, inputs = with_adapters("bert", **configs, lora=gw.LoRA(targets=["query"]))
    adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
    lively(adapters, "ab", 7)
    outputs = {}
    for name in (*NAMES, "lora", "ab"):
        adapters.save(name, folder / name, format="peft" if name == "lora" else "graftwork")
        with adapters.using(name):
            outputs[name] = output(model, inputs)
    return folder, outputs


def empty() -> tuple[Any, gw.Adapters, dict[str, Any]]:
    return with_adapters("bert", own=gw.Pfeiffer(reduction_factor=4))


def test_what_is_named_is_loaded_and_computes_the_same(saved: tuple[Path, dict[str, Tensor]]) -> None:
    folder, outputs = saved
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(folder, max_resident=4)
    assert set(catalogue.names) == set(outputs) and catalogue.resident == () and "a" in catalogue
    for name, expected in outputs.items():
        with adapters.using(name):
            torch.testing.assert_close(output(model, inputs), expected)
    assert set(adapters.fusions) == {"ab"} and set(adapters.names) == {"own", "lora", "a", "b"}
    assert catalogue.resident[-1] == "ab" and len(catalogue.resident) == 4 and catalogue.resident_bytes > 0


def test_the_least_recently_used_leaves_and_what_is_in_use_stays(saved: tuple[Path, dict[str, Tensor]]) -> None:
    _, adapters, _ = empty()
    catalogue = adapters.catalogue(saved[0], max_resident=3)
    adapters.active = "a"
    catalogue.pin("b")
    for name in ("c", "d", "e"):
        with adapters.using(name):
            pass
    assert set(catalogue.resident) == {"a", "b", "e"}
    assert set(adapters.names) == {"own", "a", "b", "e"}
    catalogue.unpin("b")
    with adapters.using("c"), adapters.using("d"):  # "a" is active and "c" in use: what was used last has to go
        assert set(catalogue.resident) == {"a", "c", "d"}
    adapters.active = None
    with adapters.using(gw.MixedBatch(["c", "d", "e"])):
        assert set(catalogue.resident) == {"c", "d", "e"}


def test_a_fusion_keeps_its_pool(saved: tuple[Path, dict[str, Tensor]]) -> None:
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(saved[0], max_resident=3)
    for name in ("ab", "c", "d"):
        with adapters.using(name):
            torch.testing.assert_close(output(model, inputs), saved[1][name])
    assert "ab" not in adapters and len(catalogue.resident) <= 3
    with adapters.using(gw.Fuse("a", "b", name="ab")):
        torch.testing.assert_close(output(model, inputs), saved[1]["ab"])


def test_what_was_trained_since_it_was_loaded_stays(saved: tuple[Path, dict[str, Tensor]]) -> None:
    _, adapters, _ = empty()
    adapters.catalogue(saved[0], max_resident=2)
    adapters.train_only("a")
    with torch.no_grad():
        adapters.trainable_parameters()[0].add_(1.0)
    adapters.train_only("b")
    adapters.active = None
    for name in ("c", "d", "e"):
        with adapters.using(name):
            pass
    assert "a" in adapters and "b" in adapters  # one was changed, and one is trained


def test_what_the_user_added_or_put_in_its_place_never_leaves(saved: tuple[Path, dict[str, Tensor]]) -> None:
    _, adapters, _ = empty()
    catalogue = adapters.catalogue(saved[0], max_resident=1)
    with adapters.using("a"):
        pass
    adapters.remove("a")
    adapters.add("a", gw.Houlsby())
    for name in ("b", "c", "d"):
        with adapters.using(name):
            pass
    assert adapters.config("a") == gw.Houlsby() and catalogue.resident == ("d",) and "own" in adapters


def test_limits_of_number_and_of_bytes(saved: tuple[Path, dict[str, Tensor]]) -> None:
    _, adapters, _ = empty()
    catalogue = adapters.catalogue(saved[0], max_resident=2)
    with pytest.raises(gw.CompositionError, match="3 adapters of the catalogue at once, and max_resident is 2"):
        adapters.active = gw.Stack("a", "b", "c")
    adapters.active = "a"
    size = catalogue.resident_bytes
    adapters.active = None
    catalogue = adapters.catalogue(saved[0], max_bytes=2 * size)
    for name in NAMES[1:]:
        with adapters.using(name):
            assert catalogue.resident_bytes <= 2 * size
    assert len(catalogue.resident) == 2
    for limit in ({"max_resident": 0}, {"max_bytes": -1}, {"max_resident": 2.5}):
        with pytest.raises(gw.ConfigError, match="give a whole number that is at least 1"):
            adapters.catalogue(saved[0], **limit)  # type: ignore[arg-type]  # that is what is refused


def test_folders_that_come_go_and_are_replaced(saved: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(saved[0] / name, tmp_path / name)
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(tmp_path)
    for name in ("a", "b"):
        with adapters.using(name):
            pass
    shutil.copytree(saved[0] / "c", tmp_path / "new")
    shutil.rmtree(tmp_path / "b")
    with adapters.using("a"):
        lively(adapters, "a", 99)
        changed = output(model, inputs)
        adapters.save("a", tmp_path / "a")
    adapters.remove("a")
    catalogue.refresh()
    assert catalogue.names == ("a", "new") and catalogue.resident == ()
    for name, expected in (("a", changed), ("new", saved[1]["c"])):
        with adapters.using(name):
            torch.testing.assert_close(output(model, inputs), expected)


@pytest.mark.parametrize("lookup", ["activate", "using", "Stack", "pin", "train_only"])
def test_unknown_and_damaged_ones_are_refused_by_name(
    saved: tuple[Path, dict[str, Tensor]], tmp_path: Path, lookup: str
) -> None:
    shutil.copytree(saved[0] / "a", tmp_path / "bad")
    (tmp_path / "bad" / "adapter.safetensors").write_bytes(b"none")
    _, adapters, _ = empty()
    catalogue = adapters.catalogue(tmp_path)
    use: Mapping[str, Any] = {
        "activate": adapters.activate,
        "using": adapters.using,
        "Stack": lambda name: adapters.activate(gw.Stack("own", name)),
        "pin": catalogue.pin,
        "train_only": adapters.train_only,
    }
    with pytest.raises(gw.CheckpointError, match="bad"):
        use[lookup]("bad")
    with pytest.raises(gw.UnknownNameError, match="'bat'"):
        use[lookup]("bat")
    assert adapters.names == ("own",) and catalogue.resident == ()
    with pytest.raises(gw.CheckpointError, match="give a folder that has a folder for each adapter"):
        adapters.catalogue(tmp_path / "nowhere")


def test_folders_by_name(saved: tuple[Path, dict[str, Tensor]]) -> None:
    _, adapters, _ = empty()
    adapters.catalogue({"x": saved[0] / "a", "y": saved[0] / "lora"})
    adapters.active = gw.Average("x", "y")
    assert set(adapters.names) == {"own", "x", "y"}


def test_folders_that_are_added_and_removed_one_by_one(saved: tuple[Path, dict[str, Tensor]]) -> None:
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue({})
    for name in ("a", "b"):
        catalogue.add("x", saved[0] / name)  # of the same name: the former is unloaded
        with adapters.using("x"):
            torch.testing.assert_close(output(model, inputs), saved[1][name])
    catalogue.refresh()
    assert catalogue.names == ("x",)
    with adapters.using("x"):
        catalogue.remove("x")
        assert "x" in adapters  # while it is used
        torch.testing.assert_close(output(model, inputs), saved[1]["b"])
    with pytest.raises(gw.UnknownNameError, match="'y'"):
        adapters.active = "y"
    assert catalogue.names == ()


def test_a_copied_model_has_a_catalogue_of_its_own(saved: tuple[Path, dict[str, Tensor]]) -> None:
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(saved[0], max_resident=1)
    adapters.active = "a"
    other = copy.deepcopy(model)
    gw.of(other).active = "b"  # while "a" is active
    gw.of(other).active = "b"
    assert gw.of(other).names == ("own", "b") and adapters.names == ("own", "a") and catalogue.resident == ("a",)
    torch.testing.assert_close(output(other, inputs), saved[1]["b"])


def test_threads_that_use_more_than_there_is_room_for(saved: tuple[Path, dict[str, Tensor]]) -> None:
    folder, outputs = saved
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(folder, max_resident=3)
    wrong: list[str] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(12):
            name = draw.choice(sorted(outputs))
            with adapters.using(name):
                if not torch.allclose(output(model, inputs), outputs[name], atol=1e-5):
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with adapters.using("c"):
        pass
    assert not wrong and len(catalogue.resident) <= 3


def test_ten_thousand_on_disk(saved: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    for n in range(10_000):
        folder = tmp_path / f"t{n}"
        folder.mkdir()
        for file in (MANIFEST, "adapter.safetensors"):
            os.link(saved[0] / "abcde"[n % 5] / file, folder / file)
    assert json.loads((tmp_path / "t7" / MANIFEST).read_text())["name"] == "c"
    model, adapters, inputs = empty()
    catalogue = adapters.catalogue(tmp_path, max_resident=16)
    assert len(catalogue.names) == 10_000
    draw = random.Random(0)
    for _ in range(20):
        names = draw.sample(range(10_000), inputs["input_ids"].shape[0])
        with adapters.using(gw.MixedBatch([f"t{n}" for n in names])):
            found = output(model, inputs)
        for row, n in enumerate(names):
            torch.testing.assert_close(found[row], saved[1]["abcde"[n % 5]][row])
    assert len(adapters.names) <= 17
