"""Writes docs/methods/ and docs/blocks/: a page for every method and every block, and tables of all. `make docs`."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

import graftwork as gw
from graftwork import inference, training
from graftwork.report import all_blocks, all_facts, block_pages, method_pages
from graftwork.report.method_docs.docstrings import cell, paper_links, papers_in, papers_of, summary_of

DOCS = Path(__file__).parent
FOLDERS = ("methods", "blocks")
# Below the table of methods.
MORE = """
`Bottleneck` is the general form of the bottlenecks, with every choice an option: where it stands, what it reads, a skip past the
non-linearity, a norm in front or behind, a learned scale, a gate, dropout, sizes that differ by layer, layers left out. Any
configuration of peft is a method too: `adapters.add("x", peft.LoraConfig(r=8))` is a `LoRA` where that is the same function, and
peft's own modules otherwise. `gw.Union(peft.LoraConfig(r=8), gw.Parallel())` is one adapter made of several methods, as `MAM` and
`UniPELT` are. What adapters are combined by is in [the blocks](../blocks/README.md).
"""
# What is neither a method with a page nor a block: how it is written, and what says what it is.
BESIDE = {
    'adapters.add("x", peft.LoraConfig(r=8))': gw.Peft,
    'adapters.merge("new", {"a": 1.0, "b": -0.5}, start="s")': gw.Adapters.merge,
    'adapters.prune_fusion("f", ...)': gw.Adapters.prune_fusion,
    "graftwork.inference.soup": inference.soup,
    "graftwork.training.ConsistencyTrainer": training.ConsistencyTrainer,
    "graftwork.training.RandomDepth": training.RandomDepth,
    "graftwork.training.TaskMixing": training.TaskMixing,
    "graftwork.inference.TaskFinder": inference.TaskFinder,
}


class Generator(nn.Sequential):
    """That of a DCGAN for 64 × 64 images (Radford et al. 2016, arXiv:1511.06434)."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.ConvTranspose2d(128, 512, 4), nn.BatchNorm2d(512), nn.ReLU()]
        for width in (256, 128, 64):
            layers += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = super().forward(z[:, :, None, None])
        return image


def pages() -> dict[str, str]:
    """What the folders hold: path in docs/ to text."""
    with torch.device("meta"):
        models = {
            "BERT-base": transformers.BertModel(transformers.BertConfig()),
            "ResNet-50": transformers.ResNetModel(transformers.ResNetConfig()),
            "OPT-125M": transformers.OPTModel(transformers.OPTConfig()),
        }
        generator = Generator()
    attached = {name: gw.attach(model) for name, model in models.items()}
    found = {name: all_facts(adapters) for name, adapters in attached.items()}
    found["a DCGAN's generator"] = all_facts(gw.attach(generator, sites=()))
    ours = {name: [f for f in facts if f.config.__module__.startswith("graftwork.")] for name, facts in found.items()}
    methods, blocks = method_pages(ours), block_pages("BERT-base", all_blocks(attached["BERT-base"]))
    methods["README.md"] += f"{MORE}\n{beside()}"
    made = zip(FOLDERS, (methods, blocks), strict=True)
    return {f"{folder}/{name}": text for folder, texts in made for name, text in texts.items()}


def beside() -> str:
    """The table of what is used beside methods and blocks."""
    lines = []
    for written, what in BESIDE.items():
        papers = dict.fromkeys((*papers_in(what.__doc__ or ""), *papers_of(what)))
        lines.append(f"| `{written}` | {cell(summary_of(what))} | {paper_links([*papers])} |")
    return "\n".join(["## Beside them", "", "| | | paper |", "|---|---|---|", *lines, ""])


def main() -> None:
    written = pages()
    for folder in FOLDERS:
        (DOCS / folder).mkdir(exist_ok=True)
        for old in (DOCS / folder).glob("*.md"):
            if f"{folder}/{old.name}" not in written:
                old.unlink()
    for name, text in written.items():
        (DOCS / name).write_text(text, encoding="utf-8")
    print(f"{len(written) - len(FOLDERS)} methods and blocks in {', '.join(f'docs/{folder}' for folder in FOLDERS)}")


if __name__ == "__main__":
    main()
