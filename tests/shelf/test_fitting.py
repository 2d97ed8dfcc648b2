"""Whether a folder fits a model, seen without weights: the model is on the meta device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.shelf import inspect, misfit
from tests.support.saved_adapters import SIZES


def on_meta(kind: str = "Bert", **changes: int) -> gw.Adapters:
    config = getattr(hf, f"{kind}Config")(**{**SIZES, **changes})
    with torch.device("meta"):
        return gw.attach(getattr(hf, f"{kind}Model")(config))


def test_everything_fits_its_base(saved: Path) -> None:
    adapters = on_meta()
    assert {
        path.name: misfit(inspect(path), adapters) for path in saved.iterdir() if path.name != "base"
    } == dict.fromkeys((path.name for path in saved.iterdir() if path.name != "base"), None)
    assert misfit(inspect(saved / "base"), adapters) is None


@pytest.mark.parametrize("name", ["mrpc", "fusion", "whole", "mrpc-hub", "stack-hub", "sst2-peft", "base"])
def test_another_size_is_told(name: str, saved: Path) -> None:
    why = misfit(inspect(saved / name), on_meta(hidden_size=64))
    assert why is not None and "of another size" in why


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mrpc", "a model of another type: its model type is 'bert', this one's 'roberta'"),
        ("mrpc-hub", "a model of another type: its model_type is 'bert', this one's 'roberta'"),
        ("base", "made over a model of another type"),
    ],
)
def test_another_type_is_told(name: str, message: str, saved: Path) -> None:
    why = misfit(inspect(saved / name), on_meta("Roberta"))
    assert why is not None and message in why


def test_peft_says_no_type_but_names_layers(saved: Path) -> None:
    why = misfit(inspect(saved / "sst2-peft"), on_meta("DistilBert", dim=32, n_layers=2, n_heads=2, hidden_dim=64))
    assert why is not None and "encoder.layer.0.attention.self.query is not in this DistilBertModel" in why
