"""One run of a model: a forward pass, or a training step of whatever learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import Step


def forward(model: Any, ids: Tensor) -> Step:
    """A forward pass of BERT without gradients; returns the hidden states."""

    @torch.no_grad()
    def step() -> Tensor:
        states: Tensor = model(input_ids=ids).last_hidden_state
        return states

    return step


def loss(model: Any, ids: Tensor) -> Tensor:
    """The mean square of every other feature, with its graph; that of all is 1 behind a norm, and has no gradient."""
    return model(input_ids=ids).last_hidden_state[..., ::2].square().mean()


def training(model: Any, ids: Tensor) -> Step:
    """Gradients to nothing, forward, loss, backward, AdamW."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model, ids).backward()
        optimizer.step()

    return step


def gradient(model: Any, ids: Tensor) -> Tensor:
    """The length of the gradient of whatever learns, ``()``."""
    model.zero_grad(set_to_none=True)
    loss(model, ids).backward()
    found = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return torch.stack(found).norm()
