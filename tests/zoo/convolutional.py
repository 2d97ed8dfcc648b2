"""A convolutional network of the zoo: batch norms with statistics, and no attention."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import nn

from tests.zoo.inputs import pixels
from tests.zoo.registry import Expected, register


@register("resnet", transformer=False)
def resnet(generator: torch.Generator) -> tuple[nn.Module, dict[str, Any], Expected]:
    """He et al. 2016: two stages of two basic blocks, the second halves the image. The statistics are those of some data."""
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [2, 2]}
    model = hf.ResNetModel(hf.ResNetConfig(**sizes, layer_type="basic"))
    with torch.no_grad():
        for _ in range(3):
            model.train()(pixels(generator, rows=8, size=32))
    stacks = {f"encoder.stages.{stage}.layers": (2, ("mixer",)) for stage in range(2)}
    return model, {"pixel_values": pixels(generator, size=32)}, Expected(stacks, "pre")
