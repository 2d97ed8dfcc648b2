"""What one adapter more costs, among a thousand beside among a few: ``python -m benchmarks.adding``.

Prints for `add`, `activate`, `save`, `load` and `remove` the median processor time among ten adapters, among all of them, and the
ratio; then what memory an idle adapter takes beside its weights.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

import graftwork as gw

ROUNDS = 21
METHODS = {
    "Pfeiffer": gw.Pfeiffer(reduction_factor=16),
    "LoRA": gw.LoRA(rank=4, targets=["query", "value"]),
}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--adapters", type=int, default=1000, help="how many are added (default 1000)")
    arguments.add_argument("--only", choices=METHODS, help="one method")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    print("BERT, 4 layers of width 128; processor time of one call, median of 21, milliseconds\n")
    print(f"| method | call | among ten | among {given.adapters:,d} | ratio |\n|---|---|---:|---:|---:|")
    memory = []
    for name, config in METHODS.items():
        if given.only in (None, name):
            memory.append((name, *measured(name, config, given.adapters)))
    print("\n| method | weights of an idle adapter, KiB | memory besides, KiB a site |\n|---|---:|---:|")
    for name, weights, besides in memory:
        print(f"| {name} | {weights / 1024:.1f} | {besides / 1024:.2f} |")


def measured(name: str, config: gw.AdapterConfig, count: int) -> tuple[int, float]:
    """Print the rows of one method; the bytes of one adapter's weights, and those of Python objects besides for each site."""
    size = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    adapters = gw.attach(transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=100, **size)))
    for n in range(10):
        adapters.add(f"a{n}", config)
    few = calls(adapters, config)
    gc.collect()
    tracemalloc.start()
    for n in range(10, count):
        adapters.add(f"a{n}", config)
    gc.collect()
    objects = tracemalloc.get_traced_memory()[0] / (count - 10)  # tensors' own storage is not Python's
    tracemalloc.stop()
    many = calls(adapters, config)
    for call, one, other in ((call, few[call], many[call]) for call in few):
        print(f"| {name} | `{call}` | {1e3 * one:.2f} | {1e3 * other:.2f} | {other / one:.2f} |", flush=True)
    modules = adapters.modules_of("a0").values()
    weights = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    return weights, objects / len(modules)


def calls(adapters: gw.Adapters, config: gw.AdapterConfig) -> dict[str, float]:
    """The median seconds of each call, with as many adapters as there are."""
    with tempfile.TemporaryDirectory() as folder:
        seconds: dict[str, list[float]] = {}

        def timed(call: str, run: Callable[[], object]) -> None:
            start = time.process_time()
            run()
            seconds.setdefault(call, []).append(time.process_time() - start)

        adapters.add("other", config)
        for n in range(ROUNDS):
            place = Path(folder, str(n))
            timed("add", lambda: adapters.add("one", config))
            timed("activate", lambda: adapters.activate("one"))
            timed("using", lambda: adapters.using("other"))
            timed("save", lambda place=place: adapters.save("one", place))  # type: ignore[misc]  # a default argument
            adapters.active = None
            timed("remove", lambda: adapters.remove("one"))
            timed("load", lambda place=place: adapters.load(place))  # type: ignore[misc]  # a default argument
            adapters.remove("one")
        adapters.remove("other")
        return {call: statistics.median(values) for call, values in seconds.items()}


if __name__ == "__main__":
    main()
