"""Unions with parts that peft computes, on the models of the contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import peft
import torch

import graftwork as gw
from tests.contract.test_unions import UnionCase

LORA = {"bert": ["query", "value"], "t5": ["q", "v"], "gpt2": ["c_attn"]}
# What the prefix of a model refuses, by kind.
REFUSED = {("unipelt", "t5"): "must not see", ("unipelt", "gpt2"): "must not see"}


def lora(model: str) -> peft.LoraConfig:
    """A small LoRA."""
    return peft.LoraConfig(r=4, target_modules=LORA[model])


def prefix() -> peft.PrefixTuningConfig:
    """A small prefix."""
    return peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")


UNIONS: dict[str, Callable[[str], gw.AdapterConfig]] = {
    "mam": lambda model: gw.MAM(prefix_tokens=3, prefix_size=8, bottleneck_size=6),
    "unipelt": lambda model: gw.UniPELT(prefix_tokens=3, prefix_size=8, lora_rank=4, reduction_factor=4),
    "unipelt_causal": lambda model: gw.UniPELT(
        prefix_tokens=0 if model == "t5" else 3, prefix_size=8, lora_rank=4, gated=("lora", "adapter")
    ),
    "lora_and_ours": lambda model: gw.Union(
        lora(model), gw.Parallel(bottleneck_size=5), gw.Compacter(bottleneck_size=8)
    ),
    "gated_lora": lambda model: gw.Peft(peft=lora(model), gate=True),
    "twice_lora": lambda model: gw.Union(lora(model), gw.Peft(peft=lora(model), gate=True)),
}


class PeftUnionCase(UnionCase):
    """A fresh model with two adapters of one such union."""

    def __init__(self, kind: str, model: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.kind = kind
        super().__init__(dataclasses.replace(UNIONS[kind](model), **options), model, dtype)
