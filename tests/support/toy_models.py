"""Small modules with one peculiarity each, and shortcuts to look at what discovery makes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from graftwork.sites.discovery.assemble import Findings, assemble
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.record import Record
from graftwork.sites.discovery.skeleton import trace

WIDTH = 8


class Attention(nn.Module):
    """Single-head attention over the stream, or over another sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        memory = x if memory is None else memory
        scores = (self.query(x) @ self.key(memory).transpose(-1, -2)).softmax(-1)
        return self.out(scores @ self.value(memory)), scores


def feed_forward() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))


class Block(nn.Module):
    """A pre-norm block. Subclasses change the way branches are added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.mlp = Attention(), feed_forward()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.add(x, self.attn(self.norm1(x))[0], 0)
        return self.add(x, self.mlp(self.norm2(x)), 1)

    def add(self, x: torch.Tensor, y: torch.Tensor, which: int) -> torch.Tensor:
        return x + y


class PostNormBlock(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.attn(x)[0])
        return self.norm2(x + self.mlp(x))


class Model(nn.Module):
    """Blocks in a list between an embedding and a last norm."""

    def __init__(self, block: type[nn.Module] = Block, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


IDS = torch.arange(10).reshape(2, 5)


def record_of(model: nn.Module, *args: Any, **options: Any) -> Record:
    return trace(model, args or (IDS,), {}, **options)


def findings_of(model: nn.Module, *args: Any) -> Findings:
    return assemble(Graph(record_of(model, *args)))


def kinds_of(findings: Findings) -> dict[str, list[str]]:
    """For each block the kinds of its branches, in order."""
    found: dict[str, list[str]] = {}
    for f in findings.sites:
        if f.site.kind != "layer":
            found.setdefault(f.site.block, []).append(f.site.kind)
    return found
