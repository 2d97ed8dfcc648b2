"""What one adapter more costs, the thousandth beside the first few: ``python -m benchmarks.adding``.

Prints the median time of `add` for the 2nd to 11th adapter and for the last ten, and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import transformers

import graftwork as gw


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--adapters", type=int, default=1000, help="how many are added (default 1000)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    size = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    adapters = gw.attach(transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=100, **size)))
    seconds = []
    for n in range(given.adapters):
        start = time.process_time()
        adapters.add(f"a{n}", gw.Pfeiffer(reduction_factor=16))
        seconds.append(time.process_time() - start)
    first, last = statistics.median(seconds[1:11]), statistics.median(seconds[-10:])
    print("BERT, 4 layers of width 128, Pfeiffer; processor time of one `add`, median of ten, milliseconds\n")
    print("| 2nd to 11th | the last ten | ratio |\n|---:|---:|---:|")
    print(f"| {1e3 * first:.2f} | {1e3 * last:.2f} | {last / first:.2f} |")


if __name__ == "__main__":
    main()
