"""Folders with adapters for tests: one of each kind and format, a run by hand, and many copies of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import transformers as hf

import graftwork as gw
from graftwork.checkpoint.json_files import DIGEST, MANIFEST, dump
from tests.checkpoint.common import moved

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}


def bert() -> hf.PreTrainedModel:
    torch.manual_seed(0)
    return hf.BertForSequenceClassification(hf.BertConfig(**SIZES, num_labels=3)).eval()


def make_saved(folder: Path) -> Path:
    """A base in ``model``, and in ``saved`` adapters of it in every format, a fusion, a composition, a difference of the base."""
    model = bert()
    model.save_pretrained(folder / "model")
    adapters = gw.attach(model)
    adapters.add("mrpc", "pfeiffer")
    adapters.add("rte", "pfeiffer")
    adapters.add("sst2", gw.LoRA(targets=["query", "value"]))
    adapters.add_fusion(gw.Fuse("mrpc", "rte", name="mrpc,rte"))
    moved(adapters, "mrpc", "rte", "sst2", "mrpc,rte")
    saved = folder / "saved"
    for name in ("mrpc", "rte"):
        adapters.save(name, saved / name)
    adapters.save("mrpc,rte", saved / "fusion")
    adapters.save(gw.Stack("mrpc", "rte"), saved / "stack")
    adapters.save("mrpc,rte", saved / "whole", members=True)
    adapters.save("mrpc", saved / "mrpc-hub", format="adapterhub")
    adapters.save(gw.Stack("mrpc", "rte"), saved / "stack-hub", format="adapterhub")
    adapters.save("sst2", saved / "sst2-peft", format="peft")
    adapters.train_only("mrpc", base="norms")
    adapters.save_base(saved / "base")
    return folder


def make_run(folder: Path, adapter: Path, task: str = "mrpc", score: float = 0.75) -> Path:
    """The files of a run with one trained adapter."""
    unit = folder / "units" / "adapter" / task / "0"
    shutil.copytree(adapter, unit / "adapter")
    shutil.copytree(adapter, unit / "checkpoints" / "8")
    (folder / "recipe.json").write_text(json.dumps({"base": {"model": "model"}}))
    result = {"unit": f"adapter/{task}/0", "metric": "accuracy", "score": score, "scored_on": "dev", "tasks": {}}
    (unit / "result.json").write_text(json.dumps(result))
    return folder


def make_many(folder: Path, adapter: Path, count: int) -> Path:
    """Copies of an adapter, each under a name of its own."""
    data = json.loads((adapter / MANIFEST).read_text())
    data.pop(DIGEST)
    for number in range(count):
        copy = folder / f"{number // 100:03d}" / f"a{number}"
        shutil.copytree(adapter, copy)
        (copy / MANIFEST).write_bytes(dump({**data, "name": f"a{number}"}))
    return folder
