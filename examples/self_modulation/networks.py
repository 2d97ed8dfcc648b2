"""A small convolutional GAN of 8 × 8 images, and its training (hinge loss, spectral norm in the discriminator)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

LATENT = 16


class Generator(nn.Module):
    """A plain DCGAN-like generator with three batch norms; it knows nothing of adapters."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.dense = nn.Linear(LATENT, 4 * width * 4)
        self.norm0 = nn.BatchNorm2d(4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1)
        self.norm1 = nn.BatchNorm2d(2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.norm2 = nn.BatchNorm2d(width)
        self.out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = torch.relu(self.norm0(self.dense(z).unflatten(1, (-1, 2, 2))))
        h = torch.relu(self.norm1(self.up1(h)))
        h = torch.relu(self.norm2(self.up2(h)))
        return torch.tanh(self.out(h))


class Discriminator(nn.Sequential):
    def __init__(self, width: int = 32) -> None:
        super().__init__(
            spectral_norm(nn.Conv2d(1, width, 3, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(width, width, 4, 2, 1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            spectral_norm(nn.Linear(8 * width, 1)),
        )


def train(generator: nn.Module, images: Tensor, steps: int, seed: int, lr: float = 5e-4) -> None:
    """Train what of the generator asks for gradients, against a discriminator of its own.

    The seed gives the discriminator, the batches and the latents: the same for every generator.
    """
    torch.manual_seed(seed)
    judge = Discriminator()
    learning = [p for p in generator.parameters() if p.requires_grad]
    makers, judges = (torch.optim.Adam(p, lr=lr, betas=(0.5, 0.999)) for p in (learning, judge.parameters()))
    generator.train()
    for _ in range(steps):
        real = images[torch.randint(len(images), (64,))]
        with torch.no_grad():
            made = generator(torch.randn(64, LATENT))
        loss = torch.relu(1 - judge(real)).mean() + torch.relu(1 + judge(made)).mean()
        judges.zero_grad()
        loss.backward()
        judges.step()
        makers.zero_grad()
        (-judge(generator(torch.randn(64, LATENT))).mean()).backward()
        makers.step()
    generator.eval()
