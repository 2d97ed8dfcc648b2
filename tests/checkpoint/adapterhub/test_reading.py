"""Folders in AdapterHub's format, written by hand: read as the same function, and refused where there is none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.checkpoint.adapterhub.bottlenecks import bottleneck_here
from tests.checkpoint.adapterhub.by_hand import DOUBLE, SEQ_BN, tensors_for_bert, write
from tests.support.attached import ids, lively, output
from tests.support.interpreter import sites_of
from tests.zoo.models import build

CASES: dict[str, tuple[dict[str, Any], gw.AdapterConfig]] = {
    "seq_bn": (SEQ_BN, gw.Pfeiffer(reduction_factor=4)),
    "double_seq_bn": (DOUBLE, gw.Bottleneck(reduction_factor=4, activation="silu")),
    "par_bn": (
        {**SEQ_BN, "original_ln_before": False, "is_parallel": True, "scaling": 4.0, "init_weights": "mam_adapter"},
        gw.Parallel(reduction_factor=4),
    ),
    "after the norm": (
        {**SEQ_BN, "original_ln_after": False, "residual_before_ln": False},
        gw.Bottleneck(sites=("feed_forward",), reads="normed", writes="stream", reduction_factor=4),
    ),
    "layers": (
        {**SEQ_BN, "reduction_factor": {"1": 2, "default": 8}, "leave_out": [0, 9]},
        gw.Pfeiffer(reduction_factor={"1": 2, "default": 8}, leave_out=[0]),
    ),
}


def source(config: gw.AdapterConfig) -> tuple[Any, gw.Adapters]:
    model = build("bert").model
    adapters = gw.attach(model, sites=sites_of("bert"))
    adapters.add("x", config)
    lively(adapters, "x")
    return model, adapters


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("older", [False, True])
def test_same_outputs_as_the_adapter_it_was_written_from(case: str, older: bool, tmp_path: Path) -> None:
    theirs, ours = CASES[case]
    model, adapters = source(ours)
    write(tmp_path / "f", theirs, tensors_for_bert(adapters, "x"), older=older)
    assert adapters.load(tmp_path / "f") == "a"
    assert adapters.load(tmp_path / "f", "b") == "b"
    batch = {"input_ids": ids()}
    with adapters.using("x"):
        expected = output(model, batch)
    with adapters.using("b"):
        assert torch.equal(output(model, batch), expected)
    assert not any(p.requires_grad for module in adapters.modules_of("a").values() for p in module.parameters())


def test_the_oldest_layout_has_other_names(tmp_path: Path) -> None:
    model, adapters = source(gw.Pfeiffer(reduction_factor=4, activation="gelu_tanh"))
    tensors = {
        k.replace(".adapters.", ".layer_text_task_adapters."): t for k, t in tensors_for_bert(adapters, "x").items()
    }
    config = {
        **SEQ_BN,
        "non_linearity": "gelu",
        "invertible_adapter": {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2},
        "new_attention_norm": False,
        "ln_after": False,
    }
    adapters.load(write(tmp_path / "f", config, tensors, older=True, version=None, type="text_task"))
    with adapters.using("x"):
        expected = output(model, {"input_ids": ids()})
    with adapters.using("a"):
        assert torch.equal(output(model, {"input_ids": ids()}), expected)


def test_another_type_or_size_of_model_with_the_same_names_is_refused(tmp_path: Path) -> None:
    _, adapters = source(gw.Pfeiffer(reduction_factor=4))
    write(tmp_path / "f", SEQ_BN, tensors_for_bert(adapters, "x"), model_type="roberta")
    with pytest.raises(gw.CheckpointError, match="of another type: its model_type is 'roberta', this one's 'bert'"):
        adapters.load(tmp_path / "f")
    write(tmp_path / "f", SEQ_BN, tensors_for_bert(adapters, "x"), model_type="bert", hidden_size=64)
    with pytest.raises(gw.CheckpointError, match="of another size: its hidden_size is 64, this one's 32"):
        adapters.load(tmp_path / "f")


def test_layers_are_numbered_through_encoder_and_decoder() -> None:
    sites = sites_of("t5")
    config = bottleneck_here({**SEQ_BN, "leave_out": [1, 2], "reduction_factor": {"3": 2, "default": 4}}, sites)
    assert config.leave_out == ("encoder.block.1", "decoder.block.0")
    assert config.reduction_factor == {"default": 4, "decoder.block.1": 2}


REFUSED = {
    "residual connection": {"original_ln_after": False},
    "'glow' is not 'nice'": {"inv_adapter": "glow"},
    "the activation 'mish'": {"non_linearity": "mish"},
    "takes the adapter's input too": {"ln_after": True, "adapter_residual_before_ln": True},
    "before the norm there": {"ln_after": True, "scaling": "learned"},
    "the option teleport=True": {"teleport": True},
    "method is 'reft'": {"architecture": "reft"},
    "missing": {"mh_adapter": True},
    "not expected": {"leave_out": [0]},
    "misshapen": {"reduction_factor": 2},
    "many more weights": {"reduction_factor": 1e-9},
    "reduction_factor": {"reduction_factor": "much"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_another_function_is_refused_by_name(reason: str, tmp_path: Path) -> None:
    _, adapters = source(gw.Pfeiffer(reduction_factor=4))
    write(tmp_path / "f", {**SEQ_BN, **REFUSED[reason]}, tensors_for_bert(adapters, "x"))
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(tmp_path / "f")
    assert adapters.names == ("x",)


class _Runs:
    def __reduce__(self) -> Any:
        return (open, ("ran", "w"))


def test_nothing_in_a_file_runs_and_nothing_larger_than_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    write(tmp_path / "f", SEQ_BN, {}, older=True)
    path = tmp_path / "f" / "pytorch_adapter.bin"
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    with pytest.raises(gw.CheckpointError, match="more than tensors"):
        adapters.load(tmp_path / "f")
    for value in (_Runs(), [1], {"a": "b"}):
        path.write_bytes(pickle.dumps(value, protocol=2))
        with pytest.raises(gw.CheckpointError, match="more than tensors"):
            adapters.load(tmp_path / "f")
    torch.save({"a": _Runs()}, path)
    with pytest.raises(gw.CheckpointError, match="more than tensors"):
        adapters.load(tmp_path / "f")
    path.unlink()
    with pytest.raises(gw.CheckpointError, match=r"lacks pytorch_adapter\.bin"):
        adapters.load(tmp_path / "f")
    assert not (tmp_path / "ran").exists()
