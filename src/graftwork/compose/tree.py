"""From a composition to the node of one site: the adapters of the names are looked up here, and only here."""

from __future__ import annotations

from collections.abc import Callable

from graftwork.compose.blocks import (
    Average,
    Block,
    Composition,
    Drop,
    Learned,
    Stack,
)
from graftwork.compose.blocks_by_row import BatchSplit, MixedBatch, Replicate, Split
from graftwork.compose.fusion.learned import LearnedModule, learned_node
from graftwork.compose.nodes import AverageNode, ByPositions, ByRows, Leaf, Node, StackNode, walk
from graftwork.errors import CompositionError
from graftwork.methods.layers.contract import AdapterModule

FindAdapter = Callable[[str], AdapterModule | None]
FindFusion = Callable[[str], LearnedModule | None]
LeavesOut = Callable[[Drop], bool]


def node_for(
    composition: Composition,
    adapter: FindAdapter,
    fusion: FindFusion,
    site: str,
    *,
    leaves_out: LeavesOut = lambda block: False,
    backwards: bool = False,
) -> Node | None:
    """The node of a composition at one site, ``None`` where nothing would be added.

    Args:
        composition: What is active.
        adapter: The adapter of a name at this site, ``None`` where it has none.
        fusion: The fusion of a name at this site, ``None`` where it has none.
        site: The site's key, under which fusion weights are recorded.
        leaves_out: Whether a block leaves this site out.
        backwards: Whether the updates of a Stack are made last to first there.

    Raises:
        CompositionError: If a fusion has no weights there, or an adapter is weighed that cannot be.
    """
    if composition is None:
        return None
    if isinstance(composition, str):
        module = adapter(composition)
        return None if module is None else Leaf(module, composition)
    if isinstance(composition, Drop) and leaves_out(composition):
        return None
    children = [
        node_for(child, adapter, fusion, site, leaves_out=leaves_out, backwards=backwards)
        for child in composition.children
    ]
    if all(child is None for child in children):
        return None
    if backwards and isinstance(composition, Stack):
        children.reverse()
    node = _block_node(composition, children, fusion, site)
    if isinstance(composition, (Average, Learned)):
        for leaf in walk(node):
            if isinstance(leaf, Leaf):
                refuse_unweighable(composition, leaf.name, site, leaf.module)
    return node


def refuse_unweighable(block: Block, name: str, site: str, module: AdapterModule) -> None:
    """Refuse an adapter that is weighed and cannot be.

    Raises:
        CompositionError: If it cannot be.
    """
    if module.unweighable is not None:
        raise CompositionError(f"{block!r}: {name!r} cannot be weighed at {site}, {module.unweighable}")


def _block_node(block: Block, children: list[Node | None], fusion: FindFusion, site: str) -> Node:
    if isinstance(block, Drop):
        return children[0]  # type: ignore[return-value]  # not None: some child adds something
    if isinstance(block, Stack):
        return StackNode([child for child in children if child is not None])
    if isinstance(block, Average):
        return AverageNode(children, block.weights)
    if isinstance(block, Learned):
        module = fusion(block.name)
        if module is None:
            raise CompositionError(
                f"the fusion {block.name!r} has no weights at {site}, where its adapters are; call add_fusion({block!r}) "
                "with all of them, or load it"
            )
        return learned_node(block, children, module, site)
    if isinstance(block, (BatchSplit, MixedBatch, Replicate)):
        return ByRows(block, children)
    if isinstance(block, Split):
        return ByPositions(block, children)
    raise CompositionError(f"{type(block).__name__} cannot be computed at a site")
