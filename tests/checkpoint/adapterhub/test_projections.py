"""LoRA, DoRA and (IA)³ in AdapterHub's format, written by hand; merged queries, keys and values by the plain formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.checkpoint.adapterhub.by_hand import write
from tests.support.attached import attached, output
from tests.zoo.models import build

LORA: dict[str, Any] = {"architecture": "lora", "r": 3, "alpha": 5, "attn_matrices": ["q", "v"]}
BERT = [f"bert.encoder.layer.{n}.attention.self.{role}.loras.a." for n in (0, 1) for role in ("query", "value")]


def low_rank(starts: list[str], rows: int = 32, rank: int = 3, width: int = 32) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    names = [
        (f"{start}lora_{one}", shape) for start in starts for one, shape in (("A", (rank, width)), ("B", (rows, rank)))
    ]
    return {name: torch.randn(shape, generator=draw) for name, shape in names}


def test_a_lora_has_its_matrices_and_its_factor(tmp_path: Path) -> None:
    tensors = low_rank(BERT)
    adapters = attached(build("bert"))
    adapters.load(write(tmp_path / "f", LORA, tensors))
    config = adapters.config("a")
    assert isinstance(config, gw.LoRA) and config.targets == ("query", "value")
    module: Any = adapters.modules_of("a")["encoder.layer.1.attention.self.value"]
    assert torch.equal(module.down, tensors[f"{BERT[3]}lora_A"]) and torch.equal(module.up, tensors[f"{BERT[3]}lora_B"])
    assert module.scale == 5 / 3


def test_versions_before_1_1_0_left_the_factor_out(tmp_path: Path) -> None:
    adapters = attached(build("bert"))
    adapters.load(write(tmp_path / "f", LORA, low_rank(BERT), version="adapters.0.2.1"))
    assert all(module.scale == 1 for module in adapters.modules_of("a").values())


@pytest.mark.parametrize("chosen", [["q", "v"], ["k"], ["q", "k", "v"]])
def test_a_merged_projection_has_one_lora_for_each_of_its_parts(chosen: list[str], tmp_path: Path) -> None:
    zoo = build("gpt2")
    adapters = attached(zoo)
    starts = [f"transformer.h.{n}.attn.c_attn.loras.a." for n in (0, 1)]
    tensors = low_rank(starts, rows=32 * len(chosen))
    tensors = {k: torch.cat([t + n for n in range(len(chosen))]) if k.endswith("A") else t for k, t in tensors.items()}
    adapters.load(write(tmp_path / "f", {**LORA, "attn_matrices": chosen}, tensors))
    module: Any = adapters.modules_of("a")["h.0.attn.c_attn"]
    a, b = tensors[f"{starts[0]}lora_A"].chunk(len(chosen)), tensors[f"{starts[0]}lora_B"].chunk(len(chosen))
    blocks = {one: b[n] @ a[n] for n, one in enumerate(chosen)}
    expected = torch.cat([blocks.get(one, torch.zeros(32, 32)) for one in "qkv"])
    torch.testing.assert_close(module.up @ module.down, expected)
    assert module.scale == pytest.approx(5 / 3)


def test_the_factors_of_ia3(tmp_path: Path) -> None:
    adapters = attached(build("gpt2"))
    config = {"architecture": "lora", "composition_mode": "scale", "r": 1, "alpha": 2, "attn_matrices": ["v"]}
    factors = torch.rand(32, 1)
    tensors = {f"transformer.h.{n}.attn.c_attn.loras.a.lora_B": factors for n in (0, 1)}
    adapters.load(write(tmp_path / "f", config, {k: t.clone() for k, t in tensors.items()}))
    module: Any = adapters.modules_of("a")["h.0.attn.c_attn"]
    torch.testing.assert_close(module.factors, 2 * torch.cat([torch.ones(64), factors[:, 0]]))


def test_dora_with_their_norm(tmp_path: Path) -> None:
    zoo = build("t5")
    adapters = attached(zoo)
    key = "encoder.block.0.layer.0.SelfAttention.q"
    starts = [f"{site.key}.loras.a." for site in adapters.sites.projections if site.key.endswith(".q")]
    tensors = low_rank(starts, rows=zoo.model.get_submodule(key).weight.shape[0])
    tensors |= {f"{start}m.weight": torch.rand(len(tensors[f"{start}lora_B"]), 1) + 1 for start in starts}
    adapters.load(write(tmp_path / "f", {**LORA, "attn_matrices": ["q"], "use_dora": True}, tensors))
    seen: list[torch.Tensor] = []
    hook = zoo.model.get_submodule(key).register_forward_hook(
        lambda module, given, out: seen.append(torch.cat([given[0], out], -1))
    )
    with adapters.using("a"):
        output(zoo.model, zoo.inputs)
    hook.remove()
    weight, start = zoo.model.get_submodule(key).weight.detach(), f"{key}.loras.a."
    change = tensors[f"{start}lora_B"] @ tensors[f"{start}lora_A"]
    x = seen[0][..., :32]
    theirs = tensors[f"{start}m.weight"][:, 0] / (weight + change).norm(dim=1) * (x @ (weight + 5 / 3 * change).T)
    torch.testing.assert_close(seen[0][..., 32:], theirs, rtol=1e-4, atol=1e-4)


REFUSED = {
    "scales the bias": {"use_dora": True},
    "use_gating=True": {"use_gating": True},
    "two dense matrices": {"vera_d": 0.1},
    "options name": {"attn_matrices": ["q", "k"]},
    "leave_out names": {"leave_out": [0]},
    "many more weights": {"r": 10**9},
    "r is 'x'": {"r": "x"},
    "missing|misshapen": {"composition_mode": "scale"},
    "'sum'": {"composition_mode": "sum"},
    "the option teleport": {"teleport": 1},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_another_function_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    adapters = attached(build("bert"))
    tensors = low_rank(BERT)
    if "use_dora" in REFUSED[reason]:
        tensors |= {f"{start}m.weight": torch.ones(32, 1) for start in BERT}
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(write(tmp_path / "f", {**LORA, **REFUSED[reason]}, tensors))
    for lacking in (BERT[0], BERT[3]):
        some = {key: tensor for key, tensor in low_rank(BERT).items() if not key.startswith(lacking)}
        with pytest.raises(gw.CheckpointError, match="options name at"):
            adapters.load(write(tmp_path / "g", LORA, some))
    assert adapters.names == ()
