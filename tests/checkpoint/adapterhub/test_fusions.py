"""Fusions and setups in AdapterHub's format, written by hand: the same function, or refused; all of it, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import graftwork as gw
from tests.checkpoint.adapterhub.by_hand import (
    DOUBLE,
    SEQ_BN,
    block,
    tensors_for_bert,
    write,
    write_fusion,
    write_setup,
)
from tests.support.attached import ids, lively, output
from tests.support.interpreter import sites_of
from tests.zoo.models import build

BATCH = {"input_ids": ids()}


def trained() -> tuple[Any, gw.Adapters]:
    model = build("bert").model
    adapters = gw.attach(model, sites=sites_of("bert"))
    for n, name in enumerate("ab"):
        adapters.add(name, gw.Pfeiffer(reduction_factor=4))
        lively(adapters, name, seed=n)
    adapters.add_fusion(gw.Fuse("b", "a", name="b,a"))
    lively(adapters, "b,a")
    return model, adapters


def fresh() -> tuple[Any, gw.Adapters]:
    model = build("bert").model
    return model, gw.attach(model, sites=sites_of("bert"))


def folders(path: Path, adapters: gw.Adapters) -> Path:
    """A folder with the folders of the two adapters and the fusion."""
    path.mkdir()
    for name in "ab":
        write(path / name, SEQ_BN, tensors_for_bert(adapters, name, saved_as=name), name=name)
    write_fusion(path / "b,a", adapters, "b,a", ["b", "a"])
    return path


def test_same_outputs_as_the_fusion_it_was_written_from(tmp_path: Path) -> None:
    model, adapters = trained()
    with adapters.using(adapters.fusions["b,a"]):
        expected = output(model, BATCH)
    path = folders(tmp_path / "f", adapters)
    again, loaded = fresh()
    with pytest.raises(gw.UnknownNameError, match="load it first"):
        loaded.load(path / "b,a")
    for name in ("a", "b"):
        loaded.load(path / name)
    assert loaded.load(path / "b,a", "both") == "both"
    with loaded.using(loaded.fusions["both"]):
        torch.testing.assert_close(output(again, BATCH), expected)
    loaded.save("both", path / "both", format="adapterhub")
    values = json.loads((path / "both" / "adapter_fusion_config.json").read_text())
    assert values["adapter_names"] == ["b", "a"] and values["config"]["value"] is True


def test_another_fusion_whose_name_begins_alike_is_left_aside(tmp_path: Path) -> None:
    _, adapters = trained()
    path = folders(tmp_path / "f", adapters)
    file = path / "b,a" / "model_adapter_fusion.safetensors"
    tensors = load_file(file)
    save_file({**tensors, **{key.replace(".b,a.", ".b,a,c."): tensor.clone() for key, tensor in tensors.items()}}, file)
    adapters.remove("b,a")
    assert adapters.load(path / "b,a") == "b,a"


REFUSED: dict[str, dict[str, Any]] = {
    "falls with every forward pass": {"temperature": True},
    "without a query": {"query": False},
    "the option teleport": {"teleport": 1},
    "not expected": {"value": False},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_another_function_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    _, adapters = trained()
    write_fusion(tmp_path / "f", adapters, "b,a", ["b", "a"], **REFUSED[reason])
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(tmp_path / "f", "new")
    assert tuple(adapters.fusions) == ("b,a",)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (gw.Parallel(reduction_factor=4), "residual connection twice"),
        (gw.Pfeiffer(reduction_factor=4, gate=True), "leaves out when it fuses"),
        (gw.Bottleneck(reduction_factor=4), "computes all as the last one"),
        (gw.Pfeiffer(reduction_factor=4, leave_out=[0]), "computes all as the last one"),
        (gw.LoRA(targets=["query"]), "fuses bottlenecks alone"),
    ],
)
def test_pools_that_they_compute_wrongly_are_refused(config: gw.AdapterConfig, reason: str, tmp_path: Path) -> None:
    _, adapters = trained()
    write_fusion(tmp_path / "f", adapters, "b,a", ["b", "a"])
    adapters.remove("b,a")
    adapters.remove("a")
    adapters.add("a", config)
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(tmp_path / "f")


def test_a_setup_is_its_composition_and_is_not_made_active(tmp_path: Path) -> None:
    _, adapters = trained()
    path = write_setup(folders(tmp_path / "f", adapters), block("Stack", "a", block("Fuse", "b", "a")))
    _, loaded = fresh()
    assert loaded.load(path) == gw.Stack("a", gw.Fuse("b", "a", name="b,a"))
    assert loaded.active is None and loaded.names == ("a", "b")
    with pytest.raises(gw.ConfigError, match="leave out name"):
        loaded.load(path, "x")
    for _ in range(2):  # over itself too
        loaded.save(gw.Stack("a", gw.Fuse("b", "a", name="b,a")), tmp_path / "g", format="adapterhub")
    _, again = fresh()
    assert again.load(tmp_path / "g") == gw.Stack("a", gw.Fuse("b", "a", name="b,a"))


def test_compositions_that_they_cannot_say_are_not_written(tmp_path: Path) -> None:
    _, adapters = trained()
    adapters.add_fusion(gw.Fuse("a", "b", name="both"))
    wrong = [gw.Average("a", "b"), gw.Fuse("a", "b", name="both"), gw.Stack("a", None), gw.Drop("a", layers=1)]
    for composition in wrong:
        with pytest.raises(gw.CheckpointError, match="cannot be written for AdapterHub's library"):
            adapters.save(composition, tmp_path / "f", format="adapterhub")
    assert not (tmp_path / "f").exists()


SETUPS: dict[str, Any] = {
    "divides an Average twice": block("Average", "a", "b", weights=[0.5, 0.5]),
    "norm twice": block("BatchSplit", block("Stack", "a", "b"), "c", batch_sizes=[1, 1]),
    "last adapter's up-projection": block("Fuse", block("Stack", "a", "b"), "c"),
    "'MultiTask' has no counterpart": block("MultiTask", "a", "b"),
    "is no composition": "a",
    "is no adapter's name": {"type": "single", "children": ["a", "b"]},
    "lacks adapter_config": block("Stack", "a", "elsewhere"),
    "splits": block("Split", "a", "b"),
    "wiring of the first and the last": block("Split", "a", "double", splits=[1, 1]),
    "forgets what those before": block("Stack", "a", "parallel"),
}


@pytest.mark.parametrize("reason", SETUPS)
def test_setups_that_are_computed_otherwise_are_refused_and_nothing_is_added(reason: str, tmp_path: Path) -> None:
    _, adapters = trained()
    adapters.add("double", gw.Bottleneck(reduction_factor=4, activation="silu"))
    adapters.add("parallel", gw.Parallel(reduction_factor=4))
    path = write_setup(folders(tmp_path / "f", adapters), SETUPS[reason])
    write(path / "double", DOUBLE, tensors_for_bert(adapters, "double", saved_as="double"), name="double")
    options = {**SEQ_BN, "original_ln_before": False, "is_parallel": True, "scaling": 4.0}
    write(path / "parallel", options, tensors_for_bert(adapters, "parallel", saved_as="parallel"), name="parallel")
    _, loaded = fresh()
    with pytest.raises(gw.CheckpointError, match=reason):
        loaded.load(path)
    assert not loaded.names and not loaded.fusions


@pytest.mark.parametrize("name", ["..", ".", "", "../a", "/a", "a/../../a", "a\\b", "a\0"])
def test_a_part_outside_the_folder_is_not_looked_for(name: str, tmp_path: Path) -> None:
    _, adapters = trained()
    write(tmp_path, SEQ_BN, tensors_for_bert(adapters, "a", saved_as=".."), name="..")  # what ".." would lead to
    path = write_setup(folders(tmp_path / "f", adapters), block("Stack", "a", name))
    _, loaded = fresh()
    with pytest.raises(gw.CheckpointError, match="no name of a folder"):
        loaded.load(path)
    assert not loaded.names


@pytest.mark.parametrize(("depth", "said"), [(20, "is no composition"), (60, "nested too deeply")])
def test_a_setup_nested_without_end_is_refused(depth: int, said: str, tmp_path: Path) -> None:
    inner: Any = "a"
    for _ in range(depth):
        inner = block("Stack", inner)
    _, adapters = fresh()
    with pytest.raises(gw.CheckpointError, match=said):
        adapters.load(write_setup(tmp_path / "f", inner))
