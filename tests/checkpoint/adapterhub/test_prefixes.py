"""Prefix tuning in AdapterHub's format, written by hand: peft's own network with the same tensors, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.checkpoint.adapterhub.by_hand import write
from tests.support.attached import attached, output
from tests.zoo.models import build

PREFIX: dict[str, Any] = {
    "architecture": "prefix_tuning",
    "prefix_length": 3,
    "bottleneck_size": 5,
    "non_linearity": "tanh",
}
FLAT = {**PREFIX, "flat": True}


def tensors(flat: bool) -> dict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (3, 32),
        "control_trans.0.weight": (5, 32),
        "control_trans.0.bias": (5,),
    }
    shapes |= {"control_trans.2.weight": (128, 5), "control_trans.2.bias": (128,)}
    shapes = {"control_trans": (3 * 128,)} if flat else shapes
    draw = torch.Generator().manual_seed(2)
    found = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    paths = ["bert.prefix_tuning", "bert.encoder.layer.0.attention.self.prefix_tuning.pool"]  # the same tensors again
    return {f"{path}.prefix_tunings.a.self_prefix.{name}": tensor for path in paths for name, tensor in found.items()}


def test_a_network_and_what_it_makes_give_the_same_outputs(tmp_path: Path) -> None:
    zoo = build("bert")
    adapters = attached(zoo)
    given = tensors(flat=False)
    adapters.load(write(tmp_path / "f", PREFIX, given, older=True))
    start = "bert.prefix_tuning.prefix_tunings.a.self_prefix."
    inner = torch.tanh(
        given[f"{start}wte.weight"] @ given[f"{start}control_trans.0.weight"].T + given[f"{start}control_trans.0.bias"]
    )
    made = inner @ given[f"{start}control_trans.2.weight"].T + given[f"{start}control_trans.2.bias"]
    flat = {key: made.reshape(-1) for key in tensors(flat=True)}
    adapters.load(write(tmp_path / "g", FLAT, flat, older=True), "flat")
    with adapters.using("a"):
        expected = output(zoo.model, zoo.inputs)
    with adapters.using("flat"):
        torch.testing.assert_close(output(zoo.model, zoo.inputs), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(output(zoo.model, zoo.inputs), expected, atol=1e-2)


@pytest.mark.parametrize("flat", [False, True])
def test_there_and_back(flat: bool, tmp_path: Path) -> None:
    adapters = attached(build("bert"))
    given = tensors(flat)
    adapters.load(write(tmp_path / "f", FLAT if flat else PREFIX, given, older=True))
    adapters.save("a", tmp_path / "g", format="adapterhub")
    written: Any = torch.load(tmp_path / "g" / "pytorch_adapter.bin", weights_only=True)
    assert written.keys() == {key for key in given if ".pool." not in key}
    assert all(torch.equal(tensor, given[key]) for key, tensor in written.items())


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("gpt2", "positions of the text", {}),
    ("t5", "distances between", {}),
    ("bart", "at all its attentions", {"cross_prefix": False}),
    ("bert", "leave_out", {"leave_out": [0]}),
    ("bert", "use_gating=True", {"use_gating": True}),
    ("bert", "tanh inside", {"non_linearity": "relu"}),
    ("bert", "the option teleport", {"teleport": 1}),
    ("bert", "misshapen", {"bottleneck_size": 6}),
    ("bert", "missing", {"flat": True}),
    ("bert", "many more weights", {"prefix_length": 10**9}),
    ("bert", "come before", {"architecture": "prompt_tuning"}),
    ("bert", "'union'", {"architecture": "union"}),
]


@pytest.mark.parametrize(("name", "reason", "options"), REFUSED)
def test_what_is_another_function_is_refused_by_name(
    name: str, reason: str, options: dict[str, Any], tmp_path: Path
) -> None:
    zoo = build(name)
    adapters = attached(zoo)
    keys = set(zoo.model.state_dict())
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(write(tmp_path / "f", {**PREFIX, **options}, tensors(flat=False), older=True))
    assert adapters.names == () and set(zoo.model.state_dict()) == keys
