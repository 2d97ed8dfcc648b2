"""The examples in the docstrings of what a user calls, run as they are written."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.methods.registry import config_from_text

FINDER = doctest.DocTestFinder(recurse=False)
METHODS = {name: getattr(gw.Adapters, name) for name in dir(gw.Adapters) if not name.startswith("_")}
EXPORTED = {name: getattr(gw, name) for name in gw.__all__}
HEADS = {f"heads.{name}": getattr(gw.heads, name) for name in gw.heads.__all__}
EXAMPLES = {
    name: found
    for name, thing in {**METHODS, **EXPORTED, **HEADS, "config_from_text": config_from_text}.items()
    for found in FINDER.find(thing, name, globs={})
    if found.examples
}
# Made by nobody: bases of others, a type, a table, and what is only raised.
WITHOUT = {
    "Block",
    "Composition",
    "Learned",
    "TrainingError",
    "heads",
    "methods",
    "heads.Backbone",
    "heads.Head",
    "heads.heads",
}
WITHOUT |= {"heads.HeadConfig", "heads.head_from_dict"}
# What has to have one, of what is called every day.
DAILY = "add add_fusion add_head activate using train_only trainable_parameters save load merge remove detach".split()


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """What an example may name: a model with two adapters, a batch, labels, a folder."""
    torch.manual_seed(0)
    config = hf.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=50, num_labels=3
    )
    model = hf.BertForSequenceClassification(config).eval()
    adapters = gw.attach(model)
    adapters.add("a", "pfeiffer")
    adapters.add("b", "pfeiffer")
    batch = {"input_ids": torch.randint(50, (2, 5))}
    known = {"gw": gw, "torch": torch, "model": model, "adapters": adapters, "batch": batch, "folder": tmp_path}
    return {**known, "labels": torch.tensor([0, 2]), "config_from_text": config_from_text}


def test_what_is_called_every_day_has_one() -> None:
    assert {*DAILY} <= EXAMPLES.keys()


def test_what_is_exported_has_one() -> None:
    assert {*EXPORTED, *HEADS} - EXAMPLES.keys() <= WITHOUT


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs(name: str, names: dict[str, Any]) -> None:
    example = EXAMPLES[name]
    example.globs.update(names)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)
