"""A fusion belongs to the adapters that it was trained over: their digests are in its file, and are checked."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

import graftwork as gw
from graftwork.checkpoint import restore_progress, save_progress
from tests.checkpoint.common import added, attached, edit_json, moved, output
from tests.zoo.models import ZooModel

HYPER = gw.methods()["hyperformer"]


def pair(*names: str, seed: int = 0) -> tuple[ZooModel, gw.Adapters]:
    """A model with adapters of some names; other weights for another seed."""
    zoo, adapters = attached()
    for n, name in enumerate(names):
        torch.manual_seed(n)
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4))
        moved(adapters, name, seed=10 * seed + n)
    return zoo, adapters


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Folders ``a``, ``b`` and ``f``, a fusion of the two."""
    zoo, adapters = pair("a", "b")
    adapters.add_fusion(gw.Fuse("a", "b", name="f"))
    moved(adapters, "f")
    for name in "abf":
        adapters.save(name, tmp_path / name)
    torch.save(output(zoo, gw.Fuse("a", "b", name="f")), tmp_path / "output.pt")
    return tmp_path


def test_a_fusion_over_other_adapters_of_the_same_names_is_refused(saved: Path) -> None:
    _, adapters = pair(seed=0)
    adapters.load(saved / "a")
    adapters.add("b", gw.Pfeiffer(bottleneck_size=4))
    with pytest.raises(gw.CheckpointError, match=r"other adapters than those that are here as 'b'.*other_members=True"):
        adapters.load(saved / "f")
    assert not adapters.fusions
    assert adapters.load(saved / "f", other_members=True) == "f"


def test_options_are_part_of_what_an_adapter_is(saved: Path) -> None:
    """The same tensors with another activation are another adapter."""
    _, adapters = pair(seed=0)
    adapters.load(saved / "a")
    edit_json(saved / "b", lambda d: d["config"].update(activation="tanh"))
    adapters.load(saved / "b")
    with pytest.raises(gw.CheckpointError, match="here as 'b'"):
        adapters.load(saved / "f")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_same_adapters_in_any_order_and_on_a_base_of_any_precision(saved: Path, dtype: torch.dtype) -> None:
    zoo, adapters = attached(dtype=dtype)
    for name in "baf":
        adapters.load(saved / name, head=False)
    for order in ("ab", "ba"):
        found = output(zoo, gw.Fuse(*order, name="f"), head=None).float()
        expected = attached_output(saved, gw.Fuse(*order, name="f"))
        torch.testing.assert_close(found, expected, rtol=0.05 if dtype == torch.bfloat16 else 1e-4, atol=0.02)


def attached_output(saved: Path, block: gw.Fuse) -> torch.Tensor:
    zoo, adapters = attached()
    for name in "abf":
        adapters.load(saved / name, head=False)
    return output(zoo, block, head=None)


def test_another_head_is_the_same_adapter(saved: Path) -> None:
    _, adapters = attached()
    adapters.load(saved / "a", head=False)
    adapters.load(saved / "b")
    adapters.add_head("b", 7)
    assert adapters.load(saved / "f") == "f"


def test_a_composition_knows_its_own_members(tmp_path: Path) -> None:
    _, adapters = pair("a", "b")
    block = gw.Fuse("a", "b", name="f")
    adapters.add_fusion(block)
    adapters.save(block, tmp_path / "w", members=True)
    _, fresh = attached()
    assert fresh.load(tmp_path / "w") == block


@pytest.mark.parametrize("inner", [gw.Stack("a", "b"), gw.Average("a", "b"), gw.Fuse("a", "b", name="g")])
def test_nested_members_count(inner: gw.Composition, tmp_path: Path) -> None:
    def model(seed: int) -> gw.Adapters:
        _, adapters = pair("a", "b", "c", seed=seed)
        if isinstance(inner, gw.Fuse):
            torch.manual_seed(seed)
            adapters.add_fusion(inner)
            moved(adapters, "g", seed=seed)
        return adapters

    adapters = model(0)
    adapters.add_fusion(gw.Fuse(inner, "c", name="f"))
    adapters.save("f", tmp_path / "f")
    assert model(0).load(tmp_path / "f") == "f"
    with pytest.raises(gw.CheckpointError, match="'a', 'b', 'c'" + (", 'g'" if isinstance(inner, gw.Fuse) else "")):
        model(1).load(tmp_path / "f")


def test_blocks_with_weights_for_each_child_too(tmp_path: Path) -> None:
    block = gw.ScaLearn("a", "b", name="s")
    _, adapters = pair("a", "b")
    adapters.add_fusion(block)
    adapters.save("s", tmp_path / "s")
    _, other = pair("a", "b", seed=1)
    with pytest.raises(gw.CheckpointError, match="other adapters"):
        other.load(tmp_path / "s")


def test_a_member_of_an_adapter_is_itself_when_another_joins(tmp_path: Path) -> None:
    def model() -> gw.Adapters:
        _, adapters = attached()
        torch.manual_seed(0)
        adapters.add("h", HYPER(tasks=("x", "y")))
        moved(adapters, "h")
        return adapters

    adapters = model()
    adapters.add_fusion(gw.Fuse("h:x", "h:y", name="f"))
    adapters.save("f", tmp_path / "f")
    later = model()
    later.add_member("h", "z")
    assert later.load(tmp_path / "f") == "f"
    other = model()
    moved(other, "h", seed=1)
    with pytest.raises(gw.CheckpointError, match="'h:x', 'h:y'"):
        other.load(tmp_path / "f")


def test_a_file_that_knows_no_members_loads_with_a_warning(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_json(saved / "f", lambda data: data.pop("members"))
    _, adapters = pair("a", "b", seed=1)
    with caplog.at_level(logging.WARNING):
        adapters.load(saved / "f")
    assert "cannot be told" in caplog.text and "Save it again" in caplog.text


# --------------------------------------------------------------------------------------------- training, interrupted


def test_a_training_goes_on_over_the_adapters_that_it_began_with(tmp_path: Path) -> None:
    block = gw.Fuse("a", "b", name="f")

    def model(seed: int, order: str = "ab") -> gw.Adapters:
        _, adapters = pair("a", "b", seed=seed)
        adapters.add_fusion(gw.Fuse(*order, name="f"))
        adapters.train_only(block)
        return adapters

    save_progress(model(0), tmp_path)
    restore_progress(model(0), tmp_path)
    restore_progress(model(0, order="ba"), tmp_path)
    with pytest.raises(gw.CheckpointError, match="here as 'a', 'b'"):
        restore_progress(model(1), tmp_path)


def test_what_learns_with_the_fusion_is_restored_with_it(tmp_path: Path) -> None:
    def model(seed: int) -> gw.Adapters:
        _, adapters = pair("a", "b", seed=seed)
        adapters.add_fusion(gw.Fuse("a", "b", name="f"))
        adapters.train_only(["a", "b", "f"], active=gw.Fuse("a", "b", name="f"))
        return adapters

    save_progress(model(0), tmp_path)
    restore_progress(model(1), tmp_path)


def test_a_frozen_adapter_beside_what_learns_counts(tmp_path: Path) -> None:
    """A task's adapter that learned over a language's does not go on over another."""

    def model(seed: int) -> gw.Adapters:
        _, adapters = pair("language", seed=seed)
        added(adapters, task=gw.Pfeiffer(bottleneck_size=4))
        adapters.train_only("task", active=gw.Stack("language", "task"))
        return adapters

    save_progress(model(0), tmp_path)
    restore_progress(model(0), tmp_path)
    with pytest.raises(gw.CheckpointError, match="here as 'language'"):
        restore_progress(model(1), tmp_path)
