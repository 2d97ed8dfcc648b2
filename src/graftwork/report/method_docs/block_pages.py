"""A page of documentation for every block that learns, and the table of all blocks."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

from graftwork.report.method_docs.block_facts import POOL, BlockFacts
from graftwork.report.method_docs.docstrings import cell, options_table, paper_links, sections


def block_pages(model: str, every: Sequence[BlockFacts]) -> dict[str, str]:
    """The pages by file name, of the blocks that have weights.

    Args:
        model: What the model that weights are counted for is called.
        every: The facts of each block.
    """
    return {f"{facts.name}.md": _page(model, facts) for facts in every if facts.config is not None}


def block_table(model: str, every: Sequence[BlockFacts]) -> str:
    """The table of all blocks, as a section of a page."""
    lines = []
    for facts in every:
        shown = f"[`{facts.block.__name__}`]({facts.name}.md)" if facts.config else f"`{facts.block.__name__}`"
        weights = f"{facts.weights:,d} ({facts.share:.3%}) on {model}" if facts.weights else ""
        lines.append(f"| {shown} | {cell(facts.summary)} | {paper_links(facts.papers)} | {weights} |")
    head = f"What adapters are combined by; weights are those over {len(POOL)} Pfeiffer adapters."
    return "\n".join(["## Blocks", "", head, "", "| block | | paper | weights |", "|---|---|---|---|", *lines, ""])


def _page(model: str, facts: BlockFacts) -> str:
    assert facts.config is not None
    said = sections(inspect.getdoc(facts.block) or "")[0].strip()
    head = (sys.modules[facts.config.__module__].__doc__ or "").strip()
    rows = [
        ("in files", f"`{facts.name}`"),
        ("papers", paper_links(facts.papers)),
        ("options", f"`{facts.config.__name__}`"),
        (f"weights over {len(POOL)} Pfeiffer adapters on {model}", f"{facts.weights:,d} ({facts.share:.3%})"),
    ]
    glance = "\n".join(["## At a glance", "", "| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])
    return "\n\n".join([f"# `{facts.block.__name__}`", said, head, glance, options_table(facts.config)]) + "\n"
