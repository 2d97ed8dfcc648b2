"""Trains the base of this recipe, a small vision transformer, from scratch on scikit-learn's digits, and writes the tasks.

    python examples/recipes/images/prepare.py

Base, train and dev rows are different digits.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification
from transformers.utils import logging

OUT = Path(__file__).parent / "out"
WHITE = 16
CHANGES = {
    "negative": lambda image: WHITE - image,
    "turned": np.rot90,
    "both": lambda image: WHITE - np.rot90(image),
}
ROWS = {"negative": 300, "turned": 300, "both": 40}


def train(model: ViTForImageClassification, images: np.ndarray, labels: np.ndarray, epochs: int) -> None:
    """Plain training of every weight."""
    # 0 to 1 becomes -1 to 1, as graftwork does for a base without a processor of its own
    pixels = torch.tensor(images / WHITE * 2 - 1, dtype=torch.float32).unsqueeze(1)
    targets = torch.tensor(labels)
    learner = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(learner, max_lr=2e-3, total_steps=epochs * -(-len(pixels) // 64))
    model.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for chosen in torch.randperm(len(pixels)).split(64):
            loss = model(pixel_values=pixels[chosen], labels=targets[chosen]).loss
            loss.backward()
            learner.step()
            rate.step()
            learner.zero_grad()
            total += float(loss.detach()) * len(chosen)
        if epoch % 5 == 0 or epoch == epochs:
            print(f"epoch {epoch:2d} of {epochs}: loss {total / len(pixels):.3f}", flush=True)
    model.eval()


@torch.no_grad()
def accuracy(model: ViTForImageClassification, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of digits that are read right."""
    pixels = torch.tensor(images / WHITE * 2 - 1, dtype=torch.float32).unsqueeze(1)
    return float((model(pixel_values=pixels).logits.argmax(-1).numpy() == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a few steps, to see that everything runs")
    small = parser.parse_args().small
    logging.disable_progress_bar()
    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = digits.images[order], digits.target[order]
    base, learnt, dev = slice(0, 1000), slice(1000, 1400), slice(1400, 1430 if small else None)

    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
    config = ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, **sizes)
    model = ViTForImageClassification(config)
    train(model, images[base], labels[base], 2 if small else 30)
    # the classifier stays behind: each task brings a head of its own
    model.vit.save_pretrained(OUT / "base")

    print(f"the base with its own classifier: upright {accuracy(model, images[dev], labels[dev]):.1%}", end="")
    for name, change in CHANGES.items():
        changed = np.stack([change(image) for image in images])
        print(f", {name} {accuracy(model, changed[dev], labels[dev]):.1%}", end="")
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, part in (("train", slice(learnt.start, learnt.start + ROWS[name])), ("dev", dev)):
            rows = zip(changed[part].astype(int).tolist(), labels[part].tolist(), strict=True)
            lines = [json.dumps({"image": image, "label": label}) + "\n" for image, label in rows]
            (folder / f"{split}.jsonl").write_text("".join(lines))
    print()


if __name__ == "__main__":
    main()
