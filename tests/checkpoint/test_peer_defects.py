"""Defects of files found in AdapterHub's library, by their numbers in docs/interop.md: what went wrong there must hold here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.checkpoint.common import added, attached, edit_tensors, moved, output


def test_9_a_named_fusion_is_saved_and_read_in_a_composition(tmp_path: Path) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer(), c=gw.Pfeiffer())
    block = gw.Fuse("a", "b", name="both of them")
    adapters.add_fusion(block)
    moved(adapters, "both of them")
    composition = gw.Stack("c", block)
    adapters.save(composition, tmp_path / "s")
    other, again = attached()
    assert again.load(tmp_path / "s") == composition
    assert torch.equal(output(other, composition), output(zoo, composition))


@pytest.mark.parametrize("options", [{}, {"tied": False}, {"first": 2, "last": 2}, {"leave_out": (0,)}], ids=str)
def test_10_a_loreft_comes_back_the_same_with_every_option_and_without_square_matrices(
    options: dict[str, Any], tmp_path: Path
) -> None:
    zoo, adapters = attached()
    added(adapters, a=gw.LoReFT(rank=2, **options))
    adapters.save("a", tmp_path / "a")
    other, again = attached()
    again.load(tmp_path / "a")
    assert again.config("a") == adapters.config("a")
    assert torch.equal(output(other, "a"), output(zoo, "a"))
    weights = sum(p.numel() for module in adapters.modules_of("a").values() for p in module.parameters())
    head = sum(p.numel() for module in adapters.head_of("a").values() for p in module.parameters())
    assert (tmp_path / "a" / "adapter.safetensors").stat().st_size < 4 * (weights + head) + 4000


@pytest.mark.parametrize("left_out", ["down", "up", "up_bias"])
def test_12_a_file_that_lacks_weights_is_refused_by_their_names(left_out: str, tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    name = f"encoder.layer.1.feed_forward/{left_out}"
    edit_tensors(tmp_path / "a", lambda tensors: tensors.pop(name))
    _, again = attached()
    with pytest.raises(gw.CheckpointError, match=f"missing: {name}"):
        again.load(tmp_path / "a")
    assert not again.names


PEFT: dict[str, dict[str, Any]] = {
    "prompt": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
    "lora": {"peft_type": "LORA", "r": 2, "target_modules": ["query"]},
}


@pytest.mark.parametrize("kind", PEFT)
def test_12_and_14_under_another_name_every_weight_is_there(kind: str, tmp_path: Path) -> None:
    zoo, adapters = attached()
    adapters.add("a", gw.Peft(peft=PEFT[kind]))
    moved(adapters, "a")
    adapters.save("a", tmp_path / "a")
    other, again = attached()
    assert again.load(tmp_path / "a", "another") == "another"
    assert torch.equal(output(other, "another"), output(zoo, "a"))


@pytest.mark.parametrize(
    "config",
    [
        gw.MAM(prefix_tokens=3, prefix_size=8, bottleneck_size=6),
        gw.UniPELT(prefix_tokens=3, prefix_size=8, lora_rank=4, reduction_factor=4),
        gw.Compacter(n=4),
    ],
    ids=lambda config: type(config).__name__,
)
def test_14_weights_that_layers_share_are_saved_once_and_read(config: gw.AdapterConfig, tmp_path: Path) -> None:
    zoo, adapters = attached()
    adapters.add("a", config)
    moved(adapters, "a")
    adapters.save("a", tmp_path / "a")
    other, again = attached()
    again.load(tmp_path / "a")
    assert torch.equal(output(other, "a"), output(zoo, "a"))
