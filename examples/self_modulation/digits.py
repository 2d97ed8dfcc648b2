"""A GAN on scikit-learn's digits, with and without self-modulation: a table, how γ and β differ by sample, a picture.

python examples/self_modulation/digits.py --picture docs/results/self-modulation.png
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import networks
import scores
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

import graftwork as gw

SAMPLES = 2000


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images ``(rows, 1, 8, 8)`` from -1 to 1 and their digits: those to learn from, and those to compare with."""
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    half = len(order) // 2
    return (images[order[:half]], labels[order[:half]]), (images[order[half:]], labels[order[half:]])


def trained(images: Tensor, modulated: bool, steps: int, seed: int) -> networks.Generator:
    """A generator trained from scratch, with or without self-modulation; all else is the same."""
    torch.manual_seed(seed)
    generator = networks.Generator()
    if modulated:
        adapters = gw.attach(generator, sites=())  # no sites: the method makes norms
        adapters.add("sm", gw.SelfModulation(latent_size=networks.LATENT))
        adapters.train_only("sm", base="trained")
    networks.train(generator, images, steps, seed)
    return generator


@torch.no_grad()
def modulations(generator: networks.Generator, z: Tensor) -> list[str]:
    """For each norm how γ and β vary over samples: the standard deviation by sample, averaged over channels."""
    lines = [
        "| norm | channels | γ: mean | γ: sd over samples | β: mean | β: sd over samples |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for path, norm in gw.of(generator).norms_of("sm").items():
        pair = norm.modulation(z)
        said = " | ".join(f"{made.mean():.2f} | {made.std(0).mean():.3f}" for made in pair)
        lines.append(f"| {path} | {pair[0].shape[1]} | {said} |")
    return lines


def picture(path: Path, parts: list[Tensor], rows: int = 8, columns: int = 10, zoom: int = 5) -> None:
    """Sheets of images beside each other, as a PNG."""
    sheets = []
    for images in parts:
        grid = images[: rows * columns, 0].unflatten(0, (rows, columns))
        grid = torch.nn.functional.pad(grid, (1, 1, 1, 1), value=-1.0)
        sheets.append(grid.permute(0, 2, 1, 3).flatten(2).flatten(0, 1))
        sheets.append(torch.full((len(sheets[0]), 4), 1.0))
    pixels = ((torch.cat(sheets[:-1], 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    image = Image.fromarray(pixels.numpy())
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    (images, labels), (held_out, held_out_labels) = data()
    judge = scores.classifier(images, labels)
    accuracy = (judge(held_out).argmax(-1) == held_out_labels).float().mean()
    z = torch.randn(SAMPLES, networks.LATENT, generator=torch.Generator().manual_seed(1))
    last = {}
    print(
        f"{args.steps} steps of 64, {args.seeds} seeds; {SAMPLES} samples against {len(held_out)} held-out digits, by a classifier"
    )
    print(f"that is right on {accuracy:.1%} of those. The Fréchet distance is better small, the score large.\n")
    print("| | weights | Fréchet distance: mean ± sd | by seed | score: mean ± sd |\n|---|---:|---:|---:|---:|")
    print(
        f"| the digits learnt from | | {scores.frechet(judge, images, held_out):.2f} | | {scores.score(judge, images):.2f} |"
    )
    for name, modulated in (("plain", False), ("self-modulation", True)):
        distances, certainties = [], []
        for seed in range(args.seeds):
            generator = trained(images, modulated, args.steps, seed)
            with torch.no_grad():
                made = generator(z)
            distances.append(scores.frechet(judge, made, held_out))
            certainties.append(scores.score(judge, made))
            if seed == 0:
                last[name] = generator, made
        weights = sum(p.numel() for p in generator.parameters())
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (distances, certainties)]
        each = ", ".join(f"{d:.2f}" for d in distances)
        print(
            f"| {name} | {weights:,} | {statistics.mean(distances):.2f} ± {spread[0]:.2f} | {each} | "
            f"{statistics.mean(certainties):.2f} ± {spread[1]:.2f} |",
            flush=True,
        )
    print("\nγ and β of the first seed's generator, over the same samples:\n")
    print("\n".join(modulations(last["self-modulation"][0], z)))
    if args.picture:
        picture(args.picture, [held_out, last["plain"][1], last["self-modulation"][1]])
        print(f"\n{args.picture}: held-out digits, samples without and with self-modulation (seed 0)")


if __name__ == "__main__":
    main()
