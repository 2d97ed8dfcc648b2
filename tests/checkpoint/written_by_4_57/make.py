"""Writes the folders beside it: tiny bases with adapters, as transformers 4.57 names their modules.

Run with transformers 4.57 installed: ``python -m tests.checkpoint.written_by_4_57.make``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

import graftwork as gw
from tests.checkpoint.common import moved

HERE = Path(__file__).parent
POOL = gw.Fuse("a", "b", name="f", norms="base")
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
MODELS: dict[str, type] = {"vit": hf.ViTModel, "mixtral": hf.MixtralModel}
CONFIGS: dict[str, Any] = {
    "vit": hf.ViTConfig(**SIZES, image_size=4, patch_size=2),
    "mixtral": hf.MixtralConfig(**SIZES, vocab_size=11, num_key_value_heads=2, num_local_experts=2),
}
INPUTS: dict[str, dict[str, torch.Tensor]] = {
    "vit": {"pixel_values": torch.arange(48.0).reshape(1, 3, 4, 4).sin()},
    "mixtral": {"input_ids": torch.tensor([[3, 1, 4, 1, 5]])},
}


@torch.no_grad()
def outputs(model: Any, name: str) -> dict[str, torch.Tensor]:
    """What a model computes with an adapter and with the fusion."""
    found = {}
    for key, composition in {"a": "a", "f": POOL}.items():
        with gw.of(model).using(composition):
            found[key] = model(**INPUTS[name]).last_hidden_state
    return found


def main() -> None:
    for name in MODELS:
        torch.manual_seed(0)
        model = MODELS[name](CONFIGS[name]).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn_like(p))
        model.save_pretrained(HERE / name / "base")
        adapters = gw.attach(model)
        for adapter in ("a", "b"):
            adapters.add(adapter, gw.Houlsby(bottleneck_size=2, norms="own" if adapter == "a" else "base"))
        adapters.add_fusion(POOL)
        moved(adapters, "a", "b", "f")
        for part in ("a", "b", "f"):
            adapters.save(part, HERE / name / part)
        torch.save(outputs(model, name), HERE / name / "outputs.pt")


if __name__ == "__main__":
    main()
