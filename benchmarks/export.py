"""Exported models: what they cost in onnxruntime, and which models and compositions can be exported.

python -m benchmarks.export             onnxruntime's time of a bare model, one adapter, LoRA, fusions of 2 and 8; ratios
python -m benchmarks.export --matrix    every block with every kind of model, or why it is refused; minutes
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import transformers as hf

import graftwork as gw
from benchmarks.export_cases import COMPOSITIONS, MODELS, composed, stirred
from benchmarks.timing import paired

ROWS, POSITIONS = 8, 64


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--matrix", action="store_true", help="the table of models and blocks")
    arguments.add_argument("--format", default="onnx", choices=("onnx", "torch"), help="of the table")
    arguments.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), help="of the table")
    arguments.add_argument(
        "--blocks", nargs="*", default=list(COMPOSITIONS), choices=list(COMPOSITIONS), help="its rows"
    )
    arguments.add_argument("--named-heads", action="store_true", help="models with named heads in the table")
    arguments.add_argument("--rounds", type=int, default=31, help="of the times (default 31)")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.matrix:
            matrix(Path(folder), given)
        else:
            times(Path(folder), given.rounds)


def matrix(folder: Path, given: argparse.Namespace) -> None:
    """The largest difference from the model for each model and block, and the refusals below."""
    refused: list[str] = []
    print(f"| {given.format} | {' | '.join(given.models)} |\n|---|{'---:|' * len(given.models)}")
    for block in given.blocks:
        cells = [cell(folder, model, block, given, refused) for model in given.models]
        print(f"| {block} | {' | '.join(cells)} |", flush=True)
    print("\n" + "\n".join(f"{n}. {why}" for n, why in enumerate(refused, start=1)))


def cell(folder: Path, model: str, composition: str, given: argparse.Namespace, refused: list[str]) -> str:
    """The difference, or the number of the refusal."""
    try:
        _, adapters = composed(model, composition, headed=given.named_heads)
        return f"{adapters.export(folder / 'one', format=given.format).max_error:.0e}"
    except gw.GraftworkError as error:
        why = f"{type(error).__name__}: {error}"
        if why not in refused:
            refused.append(why)
        return f"refused ({refused.index(why) + 1})"


def times(folder: Path, rounds: int) -> None:
    """onnxruntime's times as ratios to the bare model's."""
    sessions = {name: session(folder / str(n), name) for n, name in enumerate(CASES)}
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, 100, (ROWS, POSITIONS), generator=generator)
    batch = {"input_ids": tokens.numpy(), "attention_mask": torch.ones_like(tokens).numpy()}
    steps = {name: lambda one=one: one.run(None, batch) for name, (one, _) in sessions.items()}
    found = paired(steps["bare"], steps, rounds)
    print(
        f"BERT 4 layers, width 256, batch {ROWS} x {POSITIONS}, onnxruntime on one thread, median of {rounds} rounds\n"
    )
    print("| | operators | ratio to bare | quartiles | ms |\n|---|---:|---:|---:|---:|")
    for name, time in found.items():
        print(
            f"| {name} | {sessions[name][1]} | {time.ratio:.2f} | {time.low:.2f} to {time.high:.2f} | {time.milliseconds:.1f} |"
        )


def fusion_of(adapters: gw.Adapters, number: int) -> str:
    """A fusion of some bottlenecks."""
    names = [f"a{n}" for n in range(number)]
    for name in names:
        adapters.add(name, gw.Pfeiffer(reduction_factor=16))
    adapters.add_fusion(gw.Fuse(*names, name="fused"))
    return "fused"


def added(adapters: gw.Adapters, config: Any) -> str:
    """One adapter."""
    adapters.add("a", config)
    return "a"


CASES: dict[str, Any] = {
    "bare": lambda adapters: None,
    "one adapter": lambda adapters: added(adapters, gw.Pfeiffer(reduction_factor=16)),
    "LoRA": lambda adapters: added(adapters, gw.LoRA(rank=8)),
    "Fuse of 2": lambda adapters: fusion_of(adapters, 2),
    "Fuse of 8": lambda adapters: fusion_of(adapters, 8),
}


def session(folder: Path, name: str) -> tuple[Any, int]:
    """A model of onnxruntime on one thread, and how many operators it has."""
    torch.manual_seed(0)
    config = hf.BertConfig(
        vocab_size=100,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        type_vocab_size=1,
    )
    adapters = gw.attach(hf.BertForSequenceClassification(config).eval())
    composition = CASES[name](adapters)
    stirred(adapters)
    made = adapters.export(folder, composition)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    ), made.operators


if __name__ == "__main__":
    main()
