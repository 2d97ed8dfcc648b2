"""How like the real digits samples are, by the eyes of a small classifier: its features and its certainty."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def classifier(images: Tensor, labels: Tensor, seed: int = 0) -> nn.Sequential:
    """Trained on the images given; its last hidden layer has 32 features."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    for _ in range(400):
        batch = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


@torch.no_grad()
def frechet(net: nn.Sequential, one: Tensor, other: Tensor) -> float:
    """Fréchet distance of two sets of images, each taken as a normal distribution of the 32 features."""
    (mean, cov), (mean2, cov2) = (_moments(net[:-1](images).double()) for images in (one, other))
    root = _root(cov)
    cross = _root(root @ cov2 @ root)
    return float((mean - mean2).square().sum() + (cov + cov2 - 2 * cross).trace())


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.mean(0), torch.cov(features.T)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


@torch.no_grad()
def score(net: nn.Sequential, images: Tensor) -> float:
    """exp E KL(p(digit | image) ‖ p(digit)): 10 where each image is surely one digit and all are as frequent, 1 at worst."""
    each = net(images).double().softmax(-1)
    return float((each * (each.log() - each.mean(0).log())).sum(-1).mean().exp())
