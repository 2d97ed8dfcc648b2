"""Converts SmolLM2 once, and links it to out/base, where the recipe looks for it.

    python examples/recipes/chat/prepare.py
    python examples/recipes/chat/prepare.py --data FOLDER sst2 subj tweet_emotion rte

With --data it also writes out/recipe.toml: tasks of FOLDER, asked in words, the last of them the target. Each is a folder with
train.jsonl, dev.jsonl (or .gz) of texts and labels, and a meta.json that names the labels.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE / "out"
sys.path.append(str(HERE.parents[1]))  # what the examples share

from smollm2 import base  # noqa: E402
from sums import tiny  # noqa: E402
from tasks import Row, read_rows  # noqa: E402

TABLE = """[tasks.{task}]
kind = "generation"
data = "{task}"
system = "Answer {choices}."
choices = {labels}
metrics = ["accuracy"]
rows = {rows}
scored_rows = 200
shots = 4

"""


def make_base(small: bool) -> None:
    """Make out/base the converted model, or a tiny one that knows nothing."""
    OUT.mkdir(exist_ok=True)
    if small:
        for part in tiny(layers=16):  # the recipe leaves out the first fifteen
            part.save_pretrained(OUT / "base")
        return
    link = OUT / "base"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(base(), target_is_directory=True)


def in_words(row: Row, labels: list[str]) -> Row:
    """A labelled text, or two, as a prompt and the word to answer."""
    texts = [row["text"], row.get("text_pair")]
    return {"prompt": "\n".join(filter(None, texts)), "target": labels[row["label"]]}


def write_real(data: Path, tasks: list[str]) -> Path:
    """Write tasks in words, and the recipe for them; the last one is the target."""
    recipe = (HERE / "recipe.toml").read_text(encoding="utf-8")
    tables = ""
    for task in tasks:
        labels = json.loads((data / task / "meta.json").read_text(encoding="utf-8"))["labels"]
        (OUT / task).mkdir(exist_ok=True)
        for split in ("train", "dev"):
            rows = (json.dumps(in_words(row, labels)) for row in read_rows(data / task, split))
            (OUT / task / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
        few = 64 if task == tasks[-1] else 400
        tables += TABLE.format(task=task, choices=" or ".join(labels), labels=json.dumps(labels), rows=few)
    start, end = recipe.index("[tasks."), recipe.index("[training]")
    recipe = recipe[recipe.index("controls =") : start] + tables + recipe[end:]
    path = OUT / "recipe.toml"
    path.write_text(f'targets = ["{tasks[-1]}"]\n' + recipe.replace('"out/base"', '"base"'), encoding="utf-8")
    return path


def main() -> None:
    """Make the base, and the real tasks where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of the tasks")
    parser.add_argument(
        "--small", action="store_true", help="a tiny model with random weights, to see that all is well"
    )
    parser.add_argument("tasks", nargs="*", help="names of tasks in it, the target last")
    arguments = parser.parse_args()
    if (arguments.data is None) != (len(arguments.tasks) < 2):
        parser.error("--data takes the names of two tasks or more")
    make_base(arguments.small)
    if arguments.data is not None:
        print(f"graftwork run {write_real(arguments.data, arguments.tasks)} --out runs/chat-real")


if __name__ == "__main__":
    main()
