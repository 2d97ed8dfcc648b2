"""One trunk and three more domains of scikit-learn's digits: residual adapters against full fine-tuning and the head alone.

A small ResNet learns the digits as they are. Then it meets them inverted, turned by 90 degrees, and under noise. Residual adapters
of all three are learnt on one model, one after another; full fine-tuning and the head alone start from a copy of the trunk for
each. Prints a table in Markdown, with what was compared bit for bit.

    python examples/residual_adapters/digits.py
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import graftwork as gw

Images = dict[str, tuple[Tensor, Tensor, Tensor, Tensor]]
MODES = ("series", "parallel")
RATE, BATCH = 0.05, 64


def domains(seed: int) -> Images:
    """Images and labels to train on and to test on, the same digits in every domain."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    views = {
        "digits": images,
        "inverted": 1 - images,
        "rotated": images.rot90(1, (2, 3)),
        "noisy": images + 0.4 * noise,
    }
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.3, random_state=seed, stratify=digits.target)
    large = {name: nn.functional.interpolate(view, scale_factor=4.0) for name, view in views.items()}
    return {name: (view[train], labels[train], view[test], labels[test]) for name, view in large.items()}


def new_trunk() -> nn.Module:
    """A ResNet of two stages of two basic blocks for images of 32 × 32."""
    config = transformers.ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic", num_labels=10
    )
    return transformers.ResNetForImageClassification(config)


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, seed: int, *, still: bool = False) -> None:
    """SGD with momentum over what asks for a gradient, the rate falling to zero by a cosine; ``still`` leaves statistics."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=RATE, momentum=0.9, weight_decay=1e-4)
    draw = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(labels) // BATCH))
    model.train(not still)
    for _ in range(epochs):
        order = torch.randperm(len(labels), generator=draw)
        for start in range(0, len(labels) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            loss = nn.functional.cross_entropy(model(pixel_values=images[rows]).logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    """What a model answers."""
    return model.eval()(pixel_values=images).logits


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of right answers, in percent."""
    return 100 * float((logits(model, images).argmax(-1) == labels).float().mean())


def apart(trunk: nn.Module, data: Images, epochs: int, seed: int, *, head: bool) -> dict[str, float]:
    """Each domain on a copy of the trunk: its head alone, or all of it."""
    found = {}
    for name, (images, labels, test, truth) in list(data.items())[1:]:
        model = copy.deepcopy(trunk)
        for path, p in model.named_parameters():
            p.requires_grad_(path.startswith("classifier") or not head)
        train(model, images, labels, epochs, seed, still=head)
        found[name] = accuracy(model, test, truth)
    return found


def together(trunk: nn.Module, data: Images, epochs: int, seed: int, mode: str) -> tuple[dict[str, float], int, bool]:
    """Every domain on one model, one after another; the weights a domain adds, and whether nothing before was changed."""
    model = copy.deepcopy(trunk)
    adapters = gw.attach(model)
    base = {name: t.clone() for name, t in model.state_dict().items()}
    found: dict[str, float] = {}
    answers: dict[str | None, Tensor] = {None: logits(model, data["digits"][2])}
    same = True
    for name, (images, labels, test, truth) in list(data.items())[1:]:
        adapters.add(name, gw.ResidualAdapter(mode=mode))
        adapters.train_only(name)
        train(model, images, labels, epochs, seed)
        found[name] = accuracy(model, test, truth)
        for earlier, expected in answers.items():
            with adapters.using(earlier):
                same &= torch.equal(logits(model, data[earlier or "digits"][2]), expected)
        answers[name] = logits(model, test)
        now = model.state_dict()
        same &= all(torch.equal(tensor, now[key]) for key, tensor in base.items())
    return found, adapters.summary().rows[0].weights, same


def measure(epochs: int, seed: int) -> tuple[float, dict[str, dict[str, float]], dict[str, int], dict[str, bool]]:
    """One seed: the trunk's accuracy, each way's accuracies, its weights a domain, and what stayed as it was."""
    torch.manual_seed(seed)
    data, trunk = domains(seed), new_trunk()
    images, labels, test, truth = data["digits"]
    train(trunk, images, labels, 2 * epochs, seed)
    scores = {
        "the trunk as it is": {name: accuracy(trunk, *data[name][2:]) for name in list(data)[1:]},
        "head alone": apart(trunk, data, epochs, seed, head=True),
        "full fine-tuning": apart(trunk, data, epochs, seed, head=False),
    }
    head = sum(p.numel() for path, p in trunk.named_parameters() if path.startswith("classifier"))
    total = sum(p.numel() for p in trunk.parameters())
    weights = {"the trunk as it is": 0, "head alone": head, "full fine-tuning": total}
    same = {}
    for mode in MODES:
        way = f"residual adapters, {mode}"
        scores[way], own, same[way] = together(trunk, data, epochs, seed, mode)
        weights[way] = own + head
    return accuracy(trunk, test, truth), scores, weights, same


def table(epochs: int, seeds: int, say: Callable[[str], None] = print) -> None:
    """Print the table over some seeds: the mean, and the lowest and highest."""
    start = time.perf_counter()
    runs = [measure(epochs, seed) for seed in range(seeds)]
    names = list(next(iter(runs[0][1].values())))

    def cell(values: list[float]) -> str:
        return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    say(f"| way | weights a domain | {' | '.join(names)} | trunk and earlier domains unchanged to the bit |")
    say(f"|---|---|{'---|' * len(names)}---|")
    for way in runs[0][1]:
        cells = [cell([scores[way][name] for _, scores, _, _ in runs]) for name in names]
        kept = [same[way] for _, _, _, same in runs if way in same]
        verdict = "yes" if kept and all(kept) else "NO" if kept else "a copy a domain" if runs[0][2][way] else ""
        say(f"| {way} | {runs[0][2][way]:,d} | {' | '.join(cells)} | {verdict} |")
    trunk = cell([accuracy for accuracy, *_ in runs])
    say("")
    say(
        f"Accuracy in percent, the mean of {seeds} seeds (lowest to highest); the trunk on the digits as they are: {trunk}."
    )
    say(f"{time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8, help="epochs a domain; the trunk has twice as many")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    table(given.epochs, given.seeds)
