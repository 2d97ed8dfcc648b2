"""Methods of peft on the models of the contract."""

from __future__ import annotations

from typing import Any

import peft
import torch

import graftwork as gw
from tests.contract.cases import Case

MODELS = ("bert", "t5", "gpt2", "vit")
FEED_FORWARD = {
    "bert": ["intermediate.dense"],
    "t5": ["wi"],
    "gpt2": ["c_fc"],
    "vit": ["fc1", "intermediate.dense"],  # the second in transformers 4, and so below
}
TARGETS = {
    "bert": ["query", *FEED_FORWARD["bert"]],
    "t5": ["q", *FEED_FORWARD["t5"]],
    "gpt2": ["c_attn", *FEED_FORWARD["gpt2"]],
    "vit": ["q_proj", "query", *FEED_FORWARD["vit"]],
}
NORMS = {
    "bert": ["LayerNorm"],
    "t5": ["layer_norm"],
    "gpt2": ["ln_1", "ln_2"],
    "vit": ["layernorm_before", "layernorm_after"],
}
# What peft itself cannot put around a module of a model.
REFUSED = {("oft", "gpt2"): "Conv1D", ("miss", "gpt2"): "Conv1D", ("hra", "gpt2"): "Conv1D"}
# These add nothing before they are trained.
START_AT_THE_BASE = {"lora", "dora", "ia3", "oft", "vera", "miss", "hra", "ln_tuning"}
# Copies of a norm, which peft leaves in the dtype of the base.
LIKE_THE_BASE = {"ln_tuning"}


def config(kind: str, model: str) -> Any:
    """A small configuration of peft."""
    targets = TARGETS[model]
    made = {
        "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets),
        "dora": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=targets),
        "ia3": lambda: peft.IA3Config(target_modules=targets, feedforward_modules=FEED_FORWARD[model]),
        "oft": lambda: peft.OFTConfig(oft_block_size=4, target_modules=targets),
        "vera": lambda: peft.VeraConfig(r=4, target_modules=targets),
        "miss": lambda: peft.MissConfig(r=4, target_modules=targets),
        "hra": lambda: peft.HRAConfig(r=4, target_modules=targets),
        "fourierft": lambda: peft.FourierFTConfig(n_frequency=16, target_modules=targets),
        "ln_tuning": lambda: peft.LNTuningConfig(target_modules=NORMS[model]),
    }
    return made[kind]()


class PeftCase(Case):
    """A fresh model with two adapters of one method of peft, ``"a"`` at its start and ``"b"`` anywhere else."""

    def __init__(self, kind: str, model: str, dtype: torch.dtype = torch.float32) -> None:
        self.kind = kind
        self.stand(gw.Peft(peft=config(kind, model)), model, dtype)
