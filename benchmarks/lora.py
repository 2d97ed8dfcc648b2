"""LoRA and other adapters in a decoder, beside peft: ``python -m benchmarks.lora``.

Prints ratios to the bare forward pass (the median of paired rounds, with its quartiles), tokens a second of a decoder, and how
many operators of torch a forward pass of BERT runs for more and more LoRAs. Results are compared with the plain form before
anything is timed: adapters multiplied into the weights, a fusion by its formula, and decoding without a cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch

import graftwork as gw
from benchmarks import decoder, models
from benchmarks.counting import operators
from benchmarks.libraries import RANK, Ours, agree, by_outputs, lora, plain, with_loras
from benchmarks.steps import forward
from benchmarks.timing import Step, Timing, paired

BERT, LLAMA = ("query", "value"), ("q_proj", "v_proj")
Steps = Mapping[str, tuple[Step | None, Step | None]]  # by the name of the case: ours and peft's


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7, help="paired rounds (default 7)")
    arguments.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parts = {"decoder": decoders, "operators": counts}
    arguments.add_argument("--only", choices=list(parts), help="one of the tables")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    print(
        f"LoRA of rank {RANK} on query and value, float32, {given.threads} threads; median of {given.rounds} paired rounds "
        "(quartiles)"
    )
    for name, part in parts.items():
        if given.only in (None, name):
            part(given.rounds)


def decoders(rounds: int) -> None:
    """The table of a decoder: ratios to the bare model's forward pass and decoding, and tokens a second."""
    base = decoder.bare()
    one, peer = with_loras(base, 1, LLAMA)
    several = Ours(base, [lora(LLAMA)] * 8)
    found = {"one LoRA": one.active("a0"), "Pfeiffer": Ours(base, [gw.Pfeiffer()]).active("a0")}
    found["Average, 8 LoRAs"] = several.active(gw.Average(*several.names))
    expected = {
        "one LoRA": decoder.forward(plain(base, one, {"a0": 1}))(),
        "Average, 8 LoRAs": decoder.forward(plain(base, several, dict.fromkeys(several.names, 1 / 8)))(),
    }
    for name, fused in {"Fuse, 8 Pfeiffers": [gw.Pfeiffer()] * 8, "Fuse, 4 LoRAs": [lora(LLAMA)] * 4}.items():
        case = Ours(base, fused)
        pool = gw.Fuse(*case.names, name="f")
        found[name] = case.active(pool)
        expected[name] = by_outputs(case, pool, decoder.forward(case.model))
    for name, value in expected.items():
        agree(name, decoder.forward(found[name])(), value)
    agree("one LoRA of peft", decoder.forward(peer.one())(), decoder.forward(found["one LoRA"])())
    print("\nLlama of the sizes of SmolLM2-135M, random weights\n")
    rows, positions = decoder.FORWARD
    print(f"| forward of {rows} x {positions} | graftwork | peft |\n|---|---|---|")
    steps: dict[str, tuple[Step, Step | None]] = {name: (decoder.forward(model), None) for name, model in found.items()}
    steps["one LoRA"] = steps["one LoRA"][0], decoder.forward(peer.one())
    show(timed(decoder.forward(base), steps, max(rounds // 2, 1)))
    for rows in (1, 8):
        bare = decoder.decoding(base, rows)
        steps = {"bare model against itself (the noise)": (decoder.decoding(base, rows), None)}
        for name, model in found.items():
            steps[name] = (
                decoder.decoding(model, rows),
                decoder.decoding(peer.one(), rows) if name == "one LoRA" else None,
            )
            decoded: Any = steps[name][0]()
            agree(f"{name}, decoding", decoded, decoder.without_cache(model, decoded))
        print(
            f"\n| decoding, batch {rows}, {decoder.PROMPT} positions in the cache | graftwork | peft |\n|---|---|---|"
        )
        show(timed(bare, steps, rounds), tokens=rows * decoder.TOKENS)


def counts(rounds: int) -> None:
    """The table of operators run in one forward pass of BERT."""
    base, ids = models.bare(), models.batch().reshape(64, 16)
    print(f"\nOperators in one forward pass of BERT: {operators(forward(base, ids))} of the bare model\n")
    print("| LoRAs | Average | Average of peft | MixedBatch | mixed batch of peft |\n|---:|---:|---:|---:|---:|")
    for count in (1, 8, 64):
        ours, peers = with_loras(base, count, BERT)
        mixed = gw.MixedBatch([ours.names[n % count] for n in range(64)])
        cells = [operators(forward(ours.active(c), ids)) for c in (gw.Average(*ours.names), mixed)]
        peer = [operators(forward(peers.mixed(64), ids)), operators(forward(peers.weighted(), ids))]
        print(f"| {count} | {cells[0]} | {peer[1]} | {cells[1]} | {peer[0]} |")


def timed(yardstick: Step, steps: Steps, rounds: int) -> dict[str, tuple[Timing | None, Timing | None]]:
    """The timings of each case, ours and peft's, in the same rounds."""
    sides = {(name, side): step for name, pair in steps.items() for side, step in enumerate(pair) if step is not None}
    found = paired(yardstick, {f"{side} {name}": step for (name, side), step in sides.items()}, rounds, warmup=1)
    return {name: (found.get(f"0 {name}"), found.get(f"1 {name}")) for name in steps}


def show(table: Mapping[str, tuple[Timing | None, Timing | None]], tokens: int = 0) -> None:
    """Print rows of a table; with the tokens that one step decodes, tokens a second too."""
    for name, pair in table.items():
        cells = []
        for t in pair:
            cell = "-" if t is None else f"{t.ratio:.3f} ({t.low:.2f} to {t.high:.2f})"
            cells.append(f"{cell}, {1e3 * tokens / t.milliseconds:.1f} tokens/s" if t is not None and tokens else cell)
        print(f"| {name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
