"""What the tests beside AdapterHub's library share; it skips where that is not installed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as hf

from tests.support.attached import made
from tests.zoo.models import build, clone_inputs, main_output

ah = pytest.importorskip("adapters", reason="AdapterHub's library is in the environment of `make test-interop` only")

MODELS = ("bert", "roberta", "distilbert", "deberta_v2", "gpt2", "t5", "bart", "vit")
SMALL: dict[str, Any] = {"reduction_factor": 4}
METHODS: dict[str, Any] = {
    "seq_bn": ah.SeqBnConfig(**SMALL),
    "double_seq_bn": ah.DoubleSeqBnConfig(**SMALL),
    "par_bn": ah.ParBnConfig(**SMALL),
    "learned scale": ah.ParBnConfig(**SMALL, scaling="learned"),
    "channels": ah.AdapterPlusConfig(**SMALL, stochastic_depth=0.0),
    "norms": ah.SeqBnConfig(**SMALL, ln_before=True, ln_after=True),
    "layers": ah.DoubleSeqBnConfig(reduction_factor={"0": 2, "default": 8}, non_linearity="gelu", leave_out=[1]),
    "up": ah.SeqBnConfig(reduction_factor=0.5),
    "everywhere": ah.BnConfig(True, True, 4, "leakyrelu", cross_adapter=True),
    "phm": ah.DoubleSeqBnConfig(**SMALL, phm_layer=True, shared_phm_rule=False, factorized_phm_W=False),
    "phm, factors": ah.SeqBnConfig(
        **SMALL, phm_layer=True, shared_phm_rule=False, factorized_phm_rule=True, phm_rank=2
    ),
    "invertible": ah.SeqBnInvConfig(**SMALL, inv_adapter_reduction_factor=4),
    "prefix": ah.PrefixTuningConfig(prefix_length=3, bottleneck_size=5),
    "prefix, flat": ah.PrefixTuningConfig(prefix_length=3, flat=True),
    "lora": ah.LoRAConfig(r=3, alpha=5),
    "lora, all": ah.LoRAConfig(
        r=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[0]
    ),
    "lora, key": ah.LoRAConfig(attn_matrices=["k"]),
    "dora": ah.DoRAConfig(r=3, alpha=5),
    "ia3": ah.IA3Config(),
    "ia3, output": ah.IA3Config(attn_matrices=["q", "k", "v"], output_lora=True),
}
# Written by a model with a head: without one their library leaves the rule out of the file.
WITH_RULE = {
    "compacter": ah.CompacterConfig(**SMALL),
    "compacter++": ah.CompacterPlusPlusConfig(**SMALL),
    "shared W": ah.CompacterConfig(**SMALL, shared_W_phm=True),
    "factors of the rule": ah.CompacterConfig(**SMALL, factorized_phm_rule=True),
}
WITH_HEADS: dict[str, Any] = {
    "bert": hf.BertForMaskedLM,
    "roberta": hf.RobertaForMaskedLM,
    "distilbert": hf.DistilBertForMaskedLM,
    "deberta_v2": hf.DebertaV2ForMaskedLM,
    "gpt2": hf.GPT2LMHeadModel,
    "t5": hf.T5ForConditionalGeneration,
    "bart": hf.BartForConditionalGeneration,
    "vit": hf.ViTForImageClassification,
}


def theirs(model: Any, config: Any, name: str = "a") -> None:
    """Their adapter on a model, active, every weight of it moved off its start."""
    if not hasattr(model, "adapters_config"):
        ah.init(model)
    model.add_adapter(name, config=config)
    model.set_active_adapters(name)
    move(model, name)


def move(model: Any, name: str) -> None:
    draw = torch.Generator().manual_seed(sum(name.encode()))
    with torch.no_grad():
        for key, p in model.eval().named_parameters():
            if f".{name}." in f".{key}":
                p.add_(torch.randn(p.shape, generator=draw), alpha=0.2)


def run(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return main_output(model(**clone_inputs(inputs)))


def eager(model: Any) -> Any:
    """The same model with the plain attention."""
    made = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    made.load_state_dict(model.state_dict())
    return made.eval()


def differs(one: torch.Tensor, other: torch.Tensor) -> None:
    assert not torch.allclose(one, other, atol=1e-2)


def headed(name: str) -> tuple[Any, dict[str, Any]]:
    """A model with a head of its own around a model of the zoo, and inputs."""
    zoo = build(name)
    return made(WITH_HEADS[name], zoo.model.config), zoo.inputs
