"""Heads in AdapterHub's format, written by hand: as heads of ours, as the model's own, or left aside."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from tests.checkpoint.adapterhub.by_hand import SEQ_BN, tensors_for_bert, write, write_head
from tests.support.attached import bert_classifier, ids, lively, output
from tests.support.interpreter import sites_of
from tests.zoo.models import build

TWO_LAYERS: dict[str, Any] = {
    "head_type": "classification",
    "num_labels": 3,
    "layers": 2,
    "activation_function": "tanh",
}
TWO_LAYERS |= {"use_pooler": False, "bias": True, "dropout_prob": None, "label2id": {"y": 1, "x": 0, "z": 2}}


def headed() -> tuple[gw.ModelWithHeads, gw.Adapters]:
    model = gw.ModelWithHeads(build("bert").model)
    return model, gw.attach(model)


def with_adapter(folder: Path) -> Path:
    """A folder with an adapter called ``a``."""
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    adapters.add("a", gw.Pfeiffer(reduction_factor=4))
    lively(adapters, "a")
    return write(folder, SEQ_BN, tensors_for_bert(adapters, "a"))


def layers(**sizes: tuple[int, int]) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    found = {}
    for number, (rows, columns) in sizes.items():
        found[f"heads.a.{number[1:]}.weight"] = torch.randn(rows, columns, generator=draw) / 5
        found[f"heads.a.{number[1:]}.bias"] = torch.randn(rows, generator=draw)
    return found


def test_a_head_of_two_layers_by_its_formula(tmp_path: Path) -> None:
    tensors = layers(n1=(32, 32), n4=(3, 32))
    folder = write_head(with_adapter(tmp_path / "f"), TWO_LAYERS, tensors)
    model, adapters = headed()
    adapters.load(folder, "mine", head=True)
    assert adapters.labels("mine").names == ("x", "y", "z")
    adapters.active = "mine"
    states = output(model.base, {"input_ids": ids()})[:, 0]
    first = nn.functional.linear(states, tensors["heads.a.1.weight"], tensors["heads.a.1.bias"]).tanh()
    expected = nn.functional.linear(first, tensors["heads.a.4.weight"], tensors["heads.a.4.bias"])
    torch.testing.assert_close(output(model, {"input_ids": ids()}), expected)
    adapters.save("mine", tmp_path / "again", format="adapterhub")
    written: Any = torch.load(tmp_path / "again" / "pytorch_model_head.bin", weights_only=True)
    assert {key.replace("mine", "a"): tensor.shape for key, tensor in written.items()} == {
        k: t.shape for k, t in tensors.items()
    }
    values = json.loads((tmp_path / "again" / "head_config.json").read_text())
    assert values["model_class"] == "BertAdapterModel" and values["config"]["label2id"] == {"x": 0, "y": 1, "z": 2}


def test_a_head_alone_is_one_by_itself_on_a_model_with_heads(tmp_path: Path) -> None:
    config = {"head_type": "tagging", "num_labels": 4, "layers": 1, "activation_function": "tanh", "label2id": None}
    folder = write_head(tmp_path / "f", config, layers(n1=(4, 32)))
    _, adapters = headed()
    assert adapters.load(folder) == "a"
    assert adapters.labels("a").names == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


ASIDE: dict[str, dict[str, Any]] = {
    "reads the base's pooler": {"use_pooler": True},
    "type 'dependency_parsing'": {"head_type": "dependency_parsing"},
    "no activation": {"activation_function": None},
    "number of layers is 'x'": {"layers": "x"},
    "activation": {"activation_function": "mish"},
}


@pytest.mark.parametrize("reason", ASIDE)
def test_another_head_is_left_aside_or_refused_where_it_is_asked_for(
    reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_head(with_adapter(tmp_path / "f"), {**TWO_LAYERS, **ASIDE[reason]}, layers(n1=(32, 32), n4=(3, 32)))
    _, adapters = headed()
    with pytest.raises(gw.CheckpointError, match=reason):
        adapters.load(folder, head=True)
    assert adapters.names == ()
    with caplog.at_level(logging.INFO, "graftwork"):
        adapters.load(folder)
    assert "is left aside" in caplog.text and adapters.labels("a") is None


@pytest.mark.parametrize(
    "wrong", [{"n1": (32, 32)}, {"n1": (32, 32), "n4": (2, 32)}, {"n1": (32, 32), "n4": (3, 32), "n7": (3, 3)}]
)
def test_a_damaged_head_is_refused(wrong: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    folder = write_head(with_adapter(tmp_path / "f"), TWO_LAYERS, layers(**wrong))
    _, adapters = headed()
    with pytest.raises(gw.CheckpointError, match="does not fit"):
        adapters.load(folder)
    assert adapters.names == ()
    adapters.load(folder, head=False)


def test_the_head_of_a_class_of_transformers_with_any_number_of_labels(tmp_path: Path) -> None:
    weight, bias = torch.randn(5, 32), torch.randn(5)
    more = {"model_class": "BertForSequenceClassification", "num_labels": 5}
    folder = write_head(
        with_adapter(tmp_path / "f"), None, {"classifier.weight": weight, "classifier.bias": bias}, **more
    )
    adapters = gw.attach(bert_classifier(3))
    adapters.load(folder, head=True)
    assert len(adapters.labels("a").names) == 5
    assert torch.equal(adapters.head_of("a")["classifier"].weight, weight)
    base = gw.attach(build("bert").model, sites=sites_of("bert"))
    with pytest.raises(gw.CheckpointError, match="that of a BertForSequenceClassification"):
        base.load(folder, head=True)
    base.load(folder)
    (folder / "head_config.json").unlink()
    with pytest.raises(gw.CheckpointError, match="has no head"):
        adapters.load(folder, "b", head=True)


def test_a_head_that_they_do_not_have_stays_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, adapters = headed()
    adapters.add("a", gw.Pfeiffer(reduction_factor=4))
    adapters.add_head("a", gw.heads.Classification(labels=3, pooling="mean"))
    with caplog.at_level(logging.WARNING, "graftwork"):
        adapters.save("a", tmp_path / "f", format="adapterhub")
    assert "left aside: pooling" in caplog.text
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["adapter_config.json", "pytorch_adapter.bin"]
