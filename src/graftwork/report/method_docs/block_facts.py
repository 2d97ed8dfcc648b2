"""The facts of every composition block: what it does, its papers, and its weights if it is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

from graftwork.api import Adapters
from graftwork.compose import Block, Learned, LearnedConfig, config_class
from graftwork.errors import GraftworkError
from graftwork.methods import Pfeiffer
from graftwork.report.method_docs.docstrings import papers_in, papers_of, summary_of
from graftwork.report.method_docs.method_facts import blocks

POOL = tuple(f"block-{letter}" for letter in "abcd")  # names that no other adapter has


@dataclasses.dataclass(frozen=True)
class BlockFacts:
    """One composition block on one model.

    Attributes:
        name: Its name in files.
        block: Its class.
        summary: The first line of its docstring.
        papers: The arXiv numbers in its docstring, and those at the head of the file of its configuration.
        config: The configuration of its weights, ``None`` if it has none.
        weights: Number of its weights over four Pfeiffer adapters, 0 if it has none or the model has no site for them.
        share: The same over the weights of the base.
    """

    name: str
    block: type[Block]
    summary: str
    papers: tuple[str, ...]
    config: type[LearnedConfig] | None = None
    weights: int = 0
    share: float = 0.0


def all_blocks(adapters: Adapters) -> list[BlockFacts]:
    """The facts of every block, by name.

    Args:
        adapters: The handle of the model; it is left as it was.
    """
    made = []
    try:
        for name in POOL:
            adapters.add(name, Pfeiffer())
            made.append(name)
    except GraftworkError:  # a model without sites for them: the blocks are listed without weights
        pass
    try:
        return [_facts(adapters, block, counted=len(made) == len(POOL)) for block in blocks()]
    finally:
        for name in made:
            adapters.remove(name)


def _facts(adapters: Adapters, example: Block, *, counted: bool) -> BlockFacts:
    block: type[Any] = type(example)
    papers = papers_in(block.__doc__ or "")
    config = config_class(example) if isinstance(example, Learned) else None
    if config is not None:
        papers = tuple(dict.fromkeys((*papers, *papers_of(config))))
    facts = BlockFacts(block.kind, block, summary_of(block), papers, config)
    if config is None or not counted:
        return facts
    pool = block(*POOL)
    adapters.add_fusion(pool)
    try:
        row = adapters.summary().row(pool.name)
        return dataclasses.replace(facts, weights=row.weights, share=row.share)
    finally:
        adapters.remove(pool)
