"""Fusions and setups of AdapterHub's library, both ways; what it computes wrongly is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.interop.common import (
    METHODS,
    MODELS,
    ah,
    headed,
    run,
    theirs,
)
from tests.interop.table import Shown
from tests.support.interpreter import close
from tests.zoo.models import build

FUSIONS: dict[str, Any] = {
    "static": ah.StaticAdapterFusionConfig(),
    "dynamic": ah.DynamicAdapterFusionConfig(),
    "query before the norm": ah.DynamicAdapterFusionConfig(query_before_ln=True),
    "residual before": ah.DynamicAdapterFusionConfig(residual_before=True),
    "after the softmax": ah.DynamicAdapterFusionConfig(value_before_softmax=False, regularization=False),
}


POOLS = {"SeqBnConfig": "seq_bn", "DoubleSeqBnConfig": "double_seq_bn"}


def fused(model: Any, config: Any, of: Any, name: str) -> None:
    """Two adapters of theirs and a fusion over them, active, all weights moved."""
    for n, one in enumerate(("b", "a")):
        theirs(model, of(reduction_factor=4 + 4 * n), one)
    block = ah.Fuse("b", "a", name=name)
    model.add_adapter_fusion(block, config, name=name)
    model.set_active_adapters(block)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, p in model.eval().named_parameters():
            if "adapter_fusion_layer" in key:
                p.add_(torch.randn(p.shape, generator=draw), alpha=0.2)


@pytest.mark.parametrize("config", FUSIONS)
@pytest.mark.parametrize("of", POOLS)
@pytest.mark.parametrize("name", MODELS)
def test_fusions(name: str, of: str, config: str, tmp_path: Path, shown: Shown) -> None:
    cell = "fusions", f"{config}, of {POOLS[of]}", name
    plain, inputs = headed(name)
    model = copy.deepcopy(plain)
    fused(model, FUSIONS[config], getattr(ah, of), "both")
    expected = run(model, inputs)
    for one in "ab":
        model.save_adapter(tmp_path / one, one)
    model.save_adapter_fusion(tmp_path / "both", ah.Fuse("b", "a", name="both"))
    adapters = gw.attach(plain)
    for one in ("a", "b", "both"):
        assert adapters.load(tmp_path / one) == one
    with adapters.using(adapters.fusions["both"]):
        close(run(plain, inputs), expected, 1e-5)
    shown(*cell, "read")
    for one in ("a", "b", "both"):
        adapters.save(one, tmp_path / f"our {one}", format="adapterhub")
    again, _ = headed(name)
    ah.init(again)
    for one in "ab":
        again.load_adapter(str(tmp_path / f"our {one}"))
    again.load_adapter_fusion(str(tmp_path / "our both"))
    again.set_active_adapters(ah.Fuse("b", "a", name="both"))
    close(run(again.eval(), inputs), expected, 1e-5)
    shown(*cell, "written")


def test_fusions_that_are_wrong_there_are_refused(tmp_path: Path) -> None:
    plain, _ = headed("bert")
    model = copy.deepcopy(plain)
    fused(model, FUSIONS["dynamic"], ah.ParBnConfig, "both")
    for one in "ab":
        model.save_adapter(tmp_path / one, one)
    model.save_adapter_fusion(tmp_path / "both", ah.Fuse("b", "a", name="both"))
    adapters = gw.attach(plain)
    with pytest.raises(gw.UnknownNameError, match="load it first"):
        adapters.load(tmp_path / "both")
    for one in "ab":
        adapters.load(tmp_path / one)
    with pytest.raises(gw.CheckpointError, match="residual connection twice"):
        adapters.load(tmp_path / "both")
    assert not adapters.fusions


SETUPS: dict[str, Any] = {
    "stack": ah.Stack("a", "b"),
    "fuse": ah.Fuse("a", "b"),
    "stack of a fusion": ah.Stack("c", ah.Fuse("a", "b")),
    "batch split": ah.BatchSplit("a", "b", batch_sizes=[1, 2]),
    "split": ah.Split("a", "b", splits=[3, 4]),
    "parallel": ah.Parallel("a", "b"),
}


@pytest.mark.parametrize("case", [*SETUPS, "average", "nested", "fuse of a stack"])
def test_setups(case: str, tmp_path: Path, shown: Shown) -> None:
    cell = "setups", case, "bert"
    wrong = {
        "average": ah.composition.Average("a", "b"),
        "nested": ah.BatchSplit(ah.Stack("a", "b"), "c", batch_sizes=[1, 2]),
        "fuse of a stack": ah.Fuse(ah.Stack("a", "b"), "c"),
    }
    zoo = build("bert")
    inputs = {"input_ids": torch.randint(4, 90, (3, 7))}
    model = copy.deepcopy(zoo.model)
    for one in "abc":
        theirs(model, METHODS["seq_bn"], one)
    setup = {**SETUPS, **wrong}[case]
    if "fus" in case:
        model.add_adapter_fusion(["b", "c"] if case in wrong else ["a", "b"])
    model.save_adapter_setup(tmp_path / "s", setup)
    adapters = gw.attach(zoo.model)
    if case in wrong:
        with pytest.raises(gw.CheckpointError, match=r"version 1\.3\.0"):
            adapters.load(tmp_path / "s")
        assert not adapters.names
        shown(*cell, "refused")
        return
    model.set_active_adapters(setup)
    expected, composition = run(model, inputs), adapters.load(tmp_path / "s")
    with adapters.using(composition):
        close(run(zoo.model, inputs), expected, 1e-5)
    shown(*cell, "read")
    for _ in range(2):
        adapters.save(composition, tmp_path / "ours", format="adapterhub")
    again = build("bert").model
    ah.init(again)
    again.load_adapter_setup(str(tmp_path / "ours"), set_active=True)
    close(run(again.eval(), inputs), expected, 1e-5)
    shown(*cell, "written")
