"""Writes docs/methods/: a page for every registered method, and the table of all. `python -m docs.make_methods`, or `make docs`."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

import graftwork as gw
from graftwork.report import all_facts, method_pages

FOLDER = Path(__file__).parent / "methods"


def pages() -> dict[str, str]:
    """What the folder holds: file name to text."""
    with torch.device("meta"):
        models = {
            "BERT-base": transformers.BertModel(transformers.BertConfig()),
            "ResNet-50": transformers.ResNetModel(transformers.ResNetConfig()),
        }
    found = {name: all_facts(gw.attach(model)) for name, model in models.items()}
    ours = {name: [f for f in facts if f.config.__module__.startswith("graftwork.")] for name, facts in found.items()}
    return method_pages(ours)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    written = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(written) - 1} methods in {FOLDER}")


if __name__ == "__main__":
    main()
