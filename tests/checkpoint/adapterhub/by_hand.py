"""A folder in AdapterHub's format, written by hand from an adapter of ours, with the names of their documentation spelled out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

import graftwork as gw

BERT = {"attention": "attention.output", "feed_forward": "output"}
SEQ_BN = {
    "mh_adapter": False,
    "output_adapter": True,
    "reduction_factor": 4,
    "non_linearity": "relu",
    "original_ln_before": True,
}
DOUBLE = {"mh_adapter": True, "output_adapter": True, "reduction_factor": 4, "non_linearity": "swish"}


def tensors_for_bert(adapters: gw.Adapters, name: str, saved_as: str = "a") -> dict[str, Tensor]:
    """The weights of a plain bottleneck on a BERT by their names."""
    found = {}
    for key, module in adapters.modules_of(name).items():
        stack, layer, kind = key.rsplit(".", 2)
        start = f"bert.{stack}.{layer}.{BERT[kind]}.adapters.{saved_as}."
        found[f"{start}adapter_down.0.weight"], found[f"{start}adapter_down.0.bias"] = module.down, module.down_bias
        found[f"{start}adapter_up.weight"], found[f"{start}adapter_up.bias"] = module.up, module.up_bias
    return {key: tensor.detach().clone() for key, tensor in found.items()}


def write(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], *, older: bool = False, **more: Any
) -> Path:
    """A folder with an adapter called ``a``; ``older`` writes its tensors as ``torch.save`` does."""
    folder.mkdir(exist_ok=True)
    values = {
        "config": config,
        "name": "a",
        "model_type": "bert",
        "hidden_size": 32,
        "version": "adapters.1.3.0",
        **more,
    }
    (folder / "adapter_config.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    if older:
        torch.save(tensors, folder / "pytorch_adapter.bin")
    else:
        save_file(tensors, folder / "adapter.safetensors")
    return folder
