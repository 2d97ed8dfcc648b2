"""Writes docs/methods/: a page for every registered method, and the table of all. `python -m docs.make_methods`, or `make docs`."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

import graftwork as gw
from graftwork.report import all_facts, method_pages

FOLDER = Path(__file__).parent / "methods"


class Generator(nn.Sequential):
    """That of a DCGAN for 64 × 64 images (Radford et al. 2016, arXiv:1511.06434)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.ConvTranspose2d(128, 512, 4), nn.BatchNorm2d(512), nn.ReLU()]
        for width in (256, 128, 64):
            layers += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = super().forward(z[:, :, None, None])
        return image


def pages() -> dict[str, str]:
    """What the folder holds: file name to text."""
    with torch.device("meta"):
        models = {
            "BERT-base": transformers.BertModel(transformers.BertConfig()),
            "ResNet-50": transformers.ResNetModel(transformers.ResNetConfig()),
        }
        generator = Generator()
    found = {name: all_facts(gw.attach(model)) for name, model in models.items()}
    found["a DCGAN's generator"] = all_facts(gw.attach(generator, sites=()))
    ours = {name: [f for f in facts if f.config.__module__.startswith("graftwork.")] for name, facts in found.items()}
    return method_pages(ours)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(written) - 1} methods in {FOLDER}")


if __name__ == "__main__":
    main()
