"""One run of a model: a forward pass, or a training step of whatever learns."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.models import batch
from benchmarks.timing import Step


def forward(model: nn.Module) -> Step:
    """A forward pass without gradients."""
    ids = batch()

    def step() -> object:
        with torch.no_grad():
            return model(input_ids=ids)

    return step


def training(model: nn.Module) -> Step:
    """Gradients to nothing, forward, mean square loss, backward, AdamW."""
    ids = batch()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step() -> object:
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=ids).last_hidden_state.square().mean().backward()
        optimizer.step()
        return None

    return step
