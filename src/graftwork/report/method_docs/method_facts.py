"""The facts of every registered method on a model: its sites, its weights, the blocks that it composes in.

They are found by adding the method to the model (on the meta device that takes no memory), counting, and checking every
block with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from graftwork.api import Adapters
from graftwork.compose import Block, Learned, MixedBatch
from graftwork.errors import GraftworkError
from graftwork.methods import AdapterConfig, AdapterModule, NormModule
from graftwork.methods import methods as registered
from graftwork.report.method_docs.docstrings import papers_of, summary_of

_A, _B = "method-a", "method-b"  # names that no other adapter has


@dataclasses.dataclass(frozen=True)
class MethodFacts:
    """One method on one model.

    Attributes:
        name: The method's name in files.
        config: Its configuration's class.
        summary: The first line of its docstring.
        papers: The arXiv numbers at the head of its file.
        refused: Why the model does not take it, ``None`` if it does.
        kinds: The kinds of sites that it has modules at; ``norm`` if it only replaces norms.
        places: The number of these sites or norms.
        reads: The tensors that it reads there, and the inputs of the model that its norms read.
        writes: Where it writes.
        weights: Number of its weights, with its norms.
        in_norms: Number of its weights in norms.
        share: Its weights over those of the base.
        by_peft: The methods of peft in it, whose modules are where peft puts them.
        bank: Whether its adapters run as one bank of stacked weights; else they compose by their outputs.
        folds: Whether a fusion of them is folded at inference.
        blocks: Each block's name, and ``""`` if it takes two of them, else what it needs or why it refuses.
    """

    name: str
    config: type[AdapterConfig]
    summary: str
    papers: tuple[str, ...]
    refused: str | None = None
    kinds: tuple[str, ...] = ()
    places: int = 0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    weights: int = 0
    in_norms: int = 0
    share: float = 0.0
    by_peft: tuple[str, ...] = ()
    bank: bool = False
    folds: bool = False
    blocks: tuple[tuple[str, str], ...] = ()

    @property
    def form(self) -> str:
        """How it composes, in a few words."""
        if self.config.norms_alone:
            return "as norms: the last of a `Stack`, or by rows"
        if self.by_peft:
            return "alone, or in a `Stack`"
        if not self.bank:
            return "by its outputs"
        return "as a bank, folded into a fusion at inference" if self.folds else "as a bank"

    @property
    def where(self) -> str:
        """The number of sites or norms, in words."""
        return f"{self.places} {'norms' if self.config.norms_alone else 'sites'}"


def all_facts(adapters: Adapters) -> list[MethodFacts]:
    """The facts of every registered method, by name.

    Args:
        adapters: The handle of the model; it is left as it was.
    """
    return [_facts(adapters, name, config) for name, config in sorted(registered().items())]


def _facts(adapters: Adapters, name: str, config: type[AdapterConfig]) -> MethodFacts:
    """The facts of a method with its default options."""
    facts = MethodFacts(name, config, summary_of(config), papers_of(config))
    try:
        made = config()
        adapters.add(_A, made)
    except GraftworkError as error:
        return dataclasses.replace(facts, refused=str(error))
    try:
        adapters.add(_B, made)
        return _filled(adapters, facts)
    finally:
        for adapter in (_A, _B):
            if adapter in adapters.names:
                adapters.remove(adapter)


def _filled(adapters: Adapters, facts: MethodFacts) -> MethodFacts:
    found = adapters.modules_of(_A)
    sites = {adapters.sites.key_of(site): site for site in adapters.sites.places}
    modules = {key: found[key] for key in sites if key in found}  # in the order in which they run
    row = adapters.summary().row(_A)
    built = [m for m in modules.values() if isinstance(m, AdapterModule)]
    norms = adapters.norms_of(_A)
    inputs = [name for norm in norms.values() if isinstance(norm, NormModule) for name in norm.inputs]
    parts = [part for m in built for part in m.parts.values()]
    config = adapters.config(_A)
    injected = config.injected.values() if isinstance(config, AdapterConfig) else ()
    alone = facts.config.norms_alone
    return dataclasses.replace(
        facts,
        kinds=("norm",) if alone else tuple(dict.fromkeys(sites[key].kind for key in modules)),
        places=len(norms) if alone else len(modules),
        reads=tuple(dict.fromkeys((*(m.reads for m in parts), *inputs))),
        writes=("norm",) if alone else tuple(dict.fromkeys(m.writes for m in parts)),
        weights=row.weights,
        in_norms=sum(p.numel() for norm in norms.values() for p in norm.parameters()),
        share=row.share,
        by_peft=tuple(part.display_name for part in injected),
        bank=bool(built) and all(m.banked for m in built),
        folds=bool(built) and all(m.banked and m.foldable for m in built),
        blocks=tuple((type(block).__name__, _verdict(adapters, block)) for block in blocks()),
    )


def blocks() -> Iterator[Block]:
    """An example of every block, over two adapters of the method."""
    from graftwork import compose

    options: dict[str, dict[str, Any]] = {
        "BatchSplit": {"batch_sizes": 1},
        "Split": {"splits": [1, 1]},
        "Drop": {"layers": 1},
    }
    for name in sorted(compose.__all__):
        block = getattr(compose, name)
        if not isinstance(block, type) or not issubclass(block, Block) or not block.kind:
            continue
        if block is MixedBatch:
            yield MixedBatch([_A, _B])
        else:
            yield block(*((_A,) if name == "Drop" else (_A, _B)), **options.get(name, {}))


def _verdict(adapters: Adapters, block: Block) -> str:
    """``""`` if a block takes the adapters, else what it needs, else why it refuses them."""
    error = _refusal(adapters, block)
    if error is None:
        return ""
    if "norms" in block.options:
        with_base = type(block)(*block.children, **{**block.options, "norms": "base"})
        if _refusal(adapters, with_base) is None:
            return 'with `norms="base"`'
    return error.replace(f"{block!r}: ", "").replace(f"{block!r} ", "").replace(_A, "a").replace(_B, "b")


def _refusal(adapters: Adapters, block: Block) -> str | None:
    try:
        if isinstance(block, Learned):
            adapters.add_fusion(block)
            adapters.remove(block)
        else:
            adapters.check(block)
    except GraftworkError as error:
        return str(error)
    return None
