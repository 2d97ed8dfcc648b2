"""Serving: requests a second with many tasks mixed against one task alone, and latency at 70 % of the highest rate.

    python -m benchmarks.serve [--tasks 100] [--seconds 4] [--rounds 5]

A server in a process of its own, on loopback, asked by one client process: BERT blocks of width 384, six of them, random weights,
and as many Pfeiffer adapters with heads as tasks. Texts of 8 to 48 words. First every task's answers are compared with those of its
adapter alone (1e-5). Then in every round all clients ask one task, and then all tasks; the ratio is that of the round. Beside it is
the ratio of requests a second of processor time of the server, which other programs on the machine disturb less. At last
requests come at random times, at 70 % of the highest mixed rate, and the 95th percentile of their latency is compared with one
forward pass of a full batch by one adapter, timed in this process while the server idles.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

import graftwork as gw
from benchmarks.http_client import Connection, at_rate, closed_loop, processor_seconds, quantile, started
from benchmarks.timing import once

WIDTH, LAYERS, BATCH, CLIENTS, MOST = 384, 6, 32, 96, 20_000
WORDS = [f"word{n}" for n in range(500)]


def make(folder: Path, tasks: int, width: int = WIDTH, layers: int = LAYERS) -> gw.Adapters:
    """Write a base of random weights and adapters with heads of two labels on it; gives the handle of the base."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = dict(zip("pad unk cls sep mask".split(), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **{f"{k}_token": v for k, v in named.items()})
    tokenizer.save_pretrained(folder / "base")
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": width // 32}
    config = BertConfig(vocab_size=len(special) + len(WORDS), intermediate_size=4 * width, **sizes)
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder / "base")
    adapters = gw.attach(gw.ModelWithHeads(model.eval()))
    for n in range(tasks):
        add(adapters, folder / "adapters" / f"task{n}")
    return adapters


def add(adapters: gw.Adapters, folder: Path) -> None:
    """Save an adapter of random weights with a head, called as its folder, and take it off the model again."""
    name = folder.name
    adapters.add(name, gw.Pfeiffer(reduction_factor=16))
    adapters.add_head(name, gw.heads.Classification(labels=["no", "yes"]))
    adapters.train_only(name)
    with torch.no_grad():
        for weight in adapters.trainable_parameters():
            weight.normal_(std=0.1)
    adapters.save(name, folder)
    adapters.activate(None)
    adapters.remove(name)


def texts(count: int, shortest: int = 8, longest: int = 48, seed: int = 0) -> list[str]:
    """Texts of words."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(shortest, longest))) for _ in range(count)]


class Alone:
    """Adapters of a folder, each asked by itself: what a server has to answer."""

    def __init__(self, base: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self.adapters = gw.attach(gw.ModelWithHeads(AutoModel.from_pretrained(base)).eval())
        self.words = AutoTokenizer.from_pretrained(base)

    def probabilities(self, folder: Path, some: list[str]) -> list[list[float]]:
        """The probabilities of some texts by an adapter, each text by itself."""
        name = self.adapters.load(folder, "alone", head=True)
        with torch.no_grad(), self.adapters.using(name):
            logits = [self.adapters.model(**self.words([text], return_tensors="pt")).logits[0] for text in some]
        self.adapters.remove("alone")
        return [one.softmax(-1).tolist() for one in logits]

    def forward(self, folder: Path, some: list[str], times: int = 9) -> float:
        """The median seconds of one forward pass of a batch by one adapter."""
        self.adapters.activate(self.adapters.load(folder, "alone", head=True))
        batch = self.words(some, return_tensors="pt", padding=True)
        with torch.no_grad():
            found = statistics.median(once(lambda: self.adapters.model(**batch)) for _ in range(times))
        self.adapters.activate(None)
        self.adapters.remove("alone")
        return found


async def equal(port: int, folder: Path, tasks: int, alone: Alone) -> float:
    """The largest difference of an answer to that of the adapter alone; all tasks ask at once, so that they share batches."""
    some = texts(3, seed=1)

    async def asked(task: str) -> float:
        connection = Connection(port)
        status, answer = await connection.ask(
            "POST", "/v1/predict", {"task": task, "rows": [{"text": text} for text in some]}
        )
        connection.close()
        assert status == 200, answer
        wanted = alone.probabilities(folder / "adapters" / task, some)
        found = [list(one["probabilities"].values()) for one in answer["predictions"]]
        return max(
            abs(a - b) for one, other in zip(found, wanted, strict=True) for a, b in zip(one, other, strict=True)
        )

    return max(await asyncio.gather(*(asked(f"task{n}") for n in range(tasks))))


async def measure(process: int, port: int, folder: Path, given: argparse.Namespace) -> None:
    alone, some = Alone(folder / "base"), texts(997)
    difference = await equal(port, folder, given.tasks, alone)
    print(f"largest difference to the adapter alone, {given.tasks} tasks: {difference:.1e}")
    if difference > 1e-5:
        raise SystemExit("the answers are not equal: nothing is timed")

    def one(number: int) -> dict[str, Any]:
        return {"task": "task0", "texts": [some[number % len(some)]]}

    def mixed(number: int) -> dict[str, Any]:
        return {"task": f"task{number * 37 % given.tasks}", "texts": [some[number % len(some)]]}

    for ask in (one, mixed):
        await closed_loop(port, CLIENTS, given.seconds / 2, MOST, ask)  # to warm up
    rates: dict[str, list[float]] = {"one": [], "mixed": []}
    of_processor: dict[str, list[float]] = {"one": [], "mixed": []}
    for number in range(given.rounds):
        order = [("one", one), ("mixed", mixed)]
        for name, ask in order if number % 2 else order[::-1]:
            spent = processor_seconds(process)
            rate, latencies = await closed_loop(port, CLIENTS, given.seconds, MOST, ask)
            rates[name].append(rate)
            of_processor[name].append(len(latencies) / max(processor_seconds(process) - spent, 0.01))
    print(f"requests a second, one task: {statistics.median(rates['one']):.0f}")
    print(f"requests a second, {given.tasks} tasks mixed: {statistics.median(rates['mixed']):.0f}")
    print(f"ratio, median [quartiles] of {given.rounds} rounds: {ratio(rates)} (aim: 0.9 or more)")
    print(f"the same by processor time of the server: {ratio(of_processor)}")

    full = sorted(some, key=len)[-BATCH * 4 : -BATCH * 3]
    forward = alone.forward(folder / "adapters" / "task0", full)
    rate = 0.7 * statistics.median(rates["mixed"])
    latencies = await at_rate(port, rate, 2 * given.seconds, MOST, mixed)
    p50, p95 = quantile(latencies, 0.5), quantile(latencies, 0.95)
    print(f"one forward pass of {BATCH} rows by one adapter: {1e3 * forward:.1f} ms")
    print(
        f"latency at {rate:.0f} requests a second ({len(latencies)}): median {1e3 * p50:.1f} ms, p95 {1e3 * p95:.1f} ms"
    )
    print(f"p95 against one forward pass: {p95 / forward:.2f} (aim: 3 or less)")


def ratio(rates: dict[str, list[float]]) -> str:
    """The ratio of mixed to one, round by round: median and quartiles."""
    ratios = [b / a for a, b in zip(rates["one"], rates["mixed"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of each measurement; it ends after 20,000 requests too"
    )
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, given.tasks)
        process, port = started(folder / "adapters", "--base", folder / "base", "--max-batch", str(BATCH))
        try:
            asyncio.run(measure(process.pid, port, folder, given))
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    main()
