"""Files that AdapterHub's library wrote, read under another version of transformers: two commands, of ``make test-interop``.

python -m tests.interop.written write FOLDER    # where that library is: bases, adapters, inputs and outputs
python -m tests.interop.written read FOLDER     # elsewhere: the same outputs, or refused by name
"""

from __future__ import annotations

import argparse
import collections
import copy
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import graftwork as gw
from tests.zoo.models import main_output

TOLERANCE = 1e-5
EAGER = ("bart", "distilbert")  # with sdpa, their masks of keys with a prefix are wrong in these two


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "read"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    (write if given.what == "write" else read)(given.folder)


def write(folder: Path) -> None:
    """Write every method on every model, where AdapterHub's library can."""
    from tests.interop.common import METHODS, MODELS, eager, run, theirs
    from tests.zoo.models import build

    for name in MODELS:
        zoo = build(name)
        zoo.model.save_pretrained(folder / name / "base")
        inputs = {key: value for key, value in zoo.inputs.items() if isinstance(value, Tensor)}
        save_file({**inputs, "expected": run(zoo.model, inputs)}, folder / name / "run.safetensors")
        for method, config in METHODS.items():
            model = (eager if "prefix" in method and name in EAGER else copy.deepcopy)(zoo.model)
            try:
                theirs(model, config)
            except Exception as error:  # of theirs, for a method that they have not for this model
                print(f"{name}, {method}: they have none ({error!s:.60})")
                continue
            place = folder / name / method
            model.save_adapter(place, "a", use_safetensors=method != "norms" and "prefix" not in method)
            save_file({"expected": run(model, inputs)}, place / "run.safetensors")
    print(f"written with transformers {transformers.__version__}")


def read(folder: Path) -> None:
    """Read all of it, and print what came of it."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    wrong = []
    for base in sorted(folder.glob("*/base")):
        name, inputs = base.parent.name, load_file(base.parent / "run.safetensors")
        plain = inputs.pop("expected")
        model = transformers.AutoModel.from_pretrained(base, attn_implementation="eager" if name in EAGER else None)
        if difference(model.eval(), inputs, plain) > TOLERANCE:
            raise SystemExit(f"{name}: this transformers computes something else than that which wrote it")
        adapters = gw.attach(model)
        for place in sorted(path.parent for path in base.parent.glob("*/run.safetensors")):
            try:
                adapters.load(place, "a")
                with adapters.using("a"):
                    far = difference(model, inputs, load_file(place / "run.safetensors")["expected"])
                came = "the same" if far <= TOLERANCE else f"off by {far:.1e}"
            except gw.GraftworkError as error:
                came = "refused"
                print(f"{name}, {place.name}: {error!s:.150}")
            if "a" in adapters:
                adapters.remove("a")
            counts[name, came] += 1
            if came not in ("the same", "refused"):
                wrong.append(f"{name}, {place.name}: {came}")
    print(f"\nread with transformers {transformers.__version__}, within {TOLERANCE}\n")
    print("| model | same outputs | refused |\n|---|---:|---:|")
    for name in dict.fromkeys(name for name, _ in counts):
        print(f"| {name} | {counts[name, 'the same']} | {counts[name, 'refused']} |")
    if wrong or not counts:
        raise SystemExit("\n".join(wrong) or f"{folder} has nothing to read")


@torch.no_grad()
def difference(model: torch.nn.Module, inputs: dict[str, Tensor], expected: Tensor) -> float:
    return float((main_output(model(**inputs)) - expected).abs().max())


if __name__ == "__main__":
    main()
