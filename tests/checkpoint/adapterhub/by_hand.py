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


def write_fusion(folder: Path, adapters: gw.Adapters, name: str, pool: list[str], **config: Any) -> Path:
    """A folder with a fusion of ours on a BERT, the options of `DynamicAdapterFusionConfig` but for those that are given."""
    tensors = {}
    for key, module in adapters.modules_of(name).items():
        stack, layer, kind = key.rsplit(".", 2)
        start = f"bert.{stack}.{layer}.{BERT[kind]}.adapter_fusion_layer.{name}."
        tensors |= {f"{start}query.weight": module.query_weight, f"{start}query.bias": module.query_bias}
        tensors |= {f"{start}key.weight": module.key_weight, f"{start}key.bias": module.key_bias}
        tensors |= {f"{start}value.weight": module.value_delta + torch.eye(module.width)}
    folder.mkdir(exist_ok=True)
    options = {
        "key": True,
        "query": True,
        "value": True,
        "query_before_ln": False,
        "regularization": True,
        "temperature": False,
    }
    options |= {
        "residual_before": False,
        "value_before_softmax": True,
        "value_initialized": True,
        "dropout_prob": None,
        **config,
    }
    values = {"config": options, "name": name, "adapter_names": pool, "version": "adapters.1.3.0"}
    (folder / "adapter_fusion_config.json").write_text(json.dumps(values))
    save_file({k: t.detach().clone() for k, t in tensors.items()}, folder / "model_adapter_fusion.safetensors")
    return folder


def block(kind: str, *children: Any, **options: Any) -> dict[str, Any]:
    """A block in their ``adapter_setup.json``."""
    inside = [{"type": "single", "children": [c]} if isinstance(c, str) else c for c in children]
    return {"type": kind, "children": inside, **({"kwargs": options} if options else {})}


def write_setup(folder: Path, setup: Any) -> Path:
    """The file of a setup, in a folder whose parts are written already."""
    folder.mkdir(exist_ok=True)
    (folder / "adapter_setup.json").write_text(json.dumps({"adapter_setup": setup, "head_setup": None}))
    return folder


def write_head(folder: Path, config: dict[str, Any] | None, tensors: dict[str, Tensor], **more: Any) -> Path:
    """The files of a head called ``a`` in a folder, beside an adapter or alone."""
    folder.mkdir(exist_ok=True)
    values = {"config": config, "name": "a", "model_class": "BertAdapterModel", "version": "adapters.1.3.0", **more}
    (folder / "head_config.json").write_text(json.dumps(values))
    save_file({key: tensor.detach().clone() for key, tensor in tensors.items()}, folder / "model_head.safetensors")
    return folder
