"""A small generator with a norm of every kind, and methods that need a latent on it: cases as those of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import graftwork as gw
from tests.contract.cases import Case

LATENT = 6


class Generator(nn.Module):
    """From a latent ``(batch, 6)`` to images ``(batch, 1, 8, 8)``; the class is for adapters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(LATENT, 24), nn.LayerNorm(24))
        self.norm = nn.BatchNorm1d(24)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(6, 6, 4, 2, 1), norm)
            for norm in (nn.BatchNorm2d(6), nn.InstanceNorm2d(6, affine=True), nn.GroupNorm(3, 6))
        )
        self.last = nn.Conv2d(6, 1, 3, 2, 1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.norm(self.first(z)).view(-1, 6, 2, 2)
        return torch.tanh(self.last(self.around(self.middle, h)))

    def middle(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = torch.relu(block(h))
        return h

    @staticmethod
    def around(run: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Runs the middle; a test puts checkpointing in its place."""
        return run(h)


def generator(dtype: torch.dtype = torch.float32) -> Generator:
    """One whose norms have weights and statistics as after a training."""
    torch.manual_seed(4)
    model = Generator()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.2)
        for name, b in model.named_buffers():
            if "running" in name:
                b.add_(torch.rand_like(b))
    return model.to(dtype).eval()


class GeneratorCase(Case):
    """As `Case`, on the generator."""

    def __init__(self, method: str, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.name = "generator"
        self.model = generator(dtype)
        draw = torch.Generator().manual_seed(2)
        z = torch.randn(4, LATENT, generator=draw).to(dtype)
        self.zoo = SimpleNamespace(model=self.model, inputs={"z": z, "y": torch.tensor([2, 0, 1, 2])})  # type: ignore[assignment]
        self.adapters = gw.attach(self.model, sites=())
        self.config = gw.methods()[method](latent_size=LATENT, **options)
        torch.manual_seed(11)
        self.adapters.add("a", self.config)
        self.adapters.add("b", self.config)
        self.unsettle("b")

    def fresh(self) -> nn.Module:
        return generator()
