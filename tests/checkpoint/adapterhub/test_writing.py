"""What is written as AdapterHub's library has it: the names of its documentation, read again the same, and what it cannot say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from tests.checkpoint.adapterhub.by_hand import tensors_for_bert
from tests.support.attached import lively, output
from tests.support.interpreter import sites_of
from tests.zoo.models import build

BACK: dict[str, tuple[str, gw.AdapterConfig]] = {
    "standard": ("bert", gw.Standard(bottleneck_size=5)),
    "no biases": ("bert", gw.Bottleneck(reduction_factor=4, up_bias=False, down_bias=False)),
    "norms": ("gpt2", gw.Pfeiffer(reduction_factor=4, norm_before=True, norm_after=True)),
    "stream": ("gpt2", gw.AdapterPlus(reduction_factor=4)),
    "layers": ("t5", gw.Pfeiffer(bottleneck_size={"decoder.block.1": 3, "default": 7}, leave_out=["encoder.block.0"])),
    "parallel": ("vit", gw.Parallel(bottleneck_size=8, scale="learned")),
    "input": ("bert", gw.Parallel(bottleneck_size=8, reads="input")),
    "compacter": ("bart", gw.Compacter(bottleneck_size=8, norms="base")),
    "phm": ("bert", gw.PHM(bottleneck_size=8, norms="base")),
    "gates": ("bert", gw.Bottleneck(bottleneck_size=4, gate=True, scale="channel")),
    "invertible": ("gpt2", gw.InvertiblePfeiffer(reduction_factor=4)),
    "lora": ("bert", gw.LoRA(rank=3, targets=["query", "intermediate.dense"], leave_out=[1], rank_stabilized=True)),
    "dora": ("t5", gw.DoRA(rank=3, targets=["q", "v"])),
    "ia3": ("gpt2", gw.IA3(targets=["c_attn", "c_fc"])),
}


@pytest.mark.parametrize("case", BACK)
def test_there_and_back(case: str, tmp_path: Path) -> None:
    name, config = BACK[case]
    zoo = build(name)
    adapters = gw.attach(zoo.model, sites=sites_of(name))
    adapters.add("a", config)
    lively(adapters, "a")
    with adapters.using("a"):
        expected = output(zoo.model, zoo.inputs)
    for _ in range(2):  # over itself too
        adapters.save("a", tmp_path / "f", format="adapterhub")
    assert adapters.load(tmp_path / "f", "b") == "b"
    with adapters.using("b"):
        torch.testing.assert_close(output(zoo.model, zoo.inputs), expected, rtol=1e-5, atol=1e-5)


def test_the_names_and_options_of_their_documentation(tmp_path: Path) -> None:
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    adapters.add("a", gw.Pfeiffer(reduction_factor=4))
    adapters.save("a", tmp_path / "f", format="adapterhub")
    tensors: Any = torch.load(tmp_path / "f" / "pytorch_adapter.bin", weights_only=True)
    wanted = tensors_for_bert(adapters, "a")
    assert tensors.keys() == wanted.keys() and all(torch.equal(tensors[key], wanted[key]) for key in wanted)
    values = json.loads((tmp_path / "f" / "adapter_config.json").read_text())
    assert (values["name"], values["hidden_size"], values["model_type"], values["version"]) == (
        "a",
        32,
        "bert",
        "adapters.1.3.0",
    )
    options = {"output_adapter": True, "mh_adapter": False, "original_ln_before": True, "original_ln_after": True}
    options |= {
        "reduction_factor": 4,
        "non_linearity": "relu",
        "residual_before_ln": True,
        "is_parallel": False,
        "leave_out": [],
    }
    assert {key: values["config"][key] for key in options} == options


REFUSED: dict[str, tuple[str, gw.AdapterConfig]] = {
    "no skip": ("bert", gw.Bottleneck(skip="scalar")),
    "no norms of the model": ("bert", gw.Houlsby()),
    "of low rank": ("bert", gw.LowRank(norms="base")),
    "no counterpart": ("bert", gw.BapnaFirat()),
    "do not read 'stream'": ("bert", gw.AdapterPlus()),
    "the factor is before the norm": ("bert", gw.Pfeiffer(norm_after=True, scale=2.0)),
    "a gate of its own": ("gpt2", gw.Pfeiffer(gate=True)),
    "scales the bias": ("bert", gw.DoRA(targets=["query"])),
    "not among them, or alone": ("bert", gw.LoRA(targets=["attention.output.dense"])),
    "not among them, or": ("bert", gw.LoRA(targets=["layer.0.attention.self.query", "value"])),
    "one rank and one": ("bert", gw.LoRA(targets=["query", "value"], rank_pattern={"query": 2})),
    "one LoRA for each": ("gpt2", gw.LoRA(targets=["c_attn"])),
    "never what enters": ("bert", gw.IA3(targets=["query"], feedforward=["query"])),
    "K-Adapter|k_adapter": ("bert", gw.KAdapter(layers=[1])),
    "only for|it is for": ("opt", gw.Pfeiffer()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_they_cannot_say_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    name, config = REFUSED[reason]
    adapters = gw.attach(build(name).model, sites=sites_of(name))
    adapters.add("a", config)
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.save("a", tmp_path / "f", format="adapterhub")
    assert not (tmp_path / "f").exists()


def test_other_folders_and_names_are_left_alone(tmp_path: Path) -> None:
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    adapters.add("a.b", gw.Pfeiffer())
    adapters.add("a", gw.Pfeiffer())
    with pytest.raises(gw.CheckpointError, match="dot"):
        adapters.save("a.b", tmp_path / "f", format="adapterhub")
    adapters.save("a", tmp_path / "f")
    with pytest.raises(gw.CheckpointError, match="holds something else"):
        adapters.save("a", tmp_path / "f", format="adapterhub")
    with pytest.raises(gw.UnknownNameError):
        adapters.save("x", tmp_path / "g", format="adapterhub")


@pytest.mark.parametrize("file", ["pytorch_adapter.bin", "pytorch_model_head.bin"])
def test_a_damaged_number_of_a_file_that_was_written_here_is_seen(file: str, tmp_path: Path) -> None:
    adapters = gw.attach(build("bert_classifier").model, sites=sites_of("bert_classifier"))
    adapters.add("a", gw.Pfeiffer(reduction_factor=4))
    adapters.save("a", tmp_path / "f", format="adapterhub")
    path = tmp_path / "f" / file
    tensors = torch.load(path)
    next(iter(tensors.values())).add_(1e-3)
    torch.save(tensors, path)
    with pytest.raises(gw.CheckpointError, match=f"{file} is not the file that .*json next to it was written with"):
        adapters.load(tmp_path / "f", "b")
    assert adapters.names == ("a",)
