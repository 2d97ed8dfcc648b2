"""A composition made ready: for every site what is computed there, and which tensors must be carried to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import nn

from graftwork.compose import (
    BatchSplit,
    Block,
    Composition,
    Drop,
    Learned,
    LearnedModule,
    MixedBatch,
    Replicate,
    Split,
    fusions_in,
    names_in,
)
from graftwork.compose.nodes import ByPositions, Node, walk
from graftwork.compose.tree import node_for
from graftwork.errors import CompositionError, ConfigError
from graftwork.forward.heads_in_use import SeveralHeads
from graftwork.forward.stand_ins import StandIns, norm_stand_ins
from graftwork.methods import AdapterModule
from graftwork.methods.layers.contract import HIDDEN
from graftwork.methods.layers.layerwise import check_layers
from graftwork.sites import Site, SiteMap
from graftwork.weights.holder import SiteAdapters, base_modules

_EDGES = ("embedding", "output_projection")  # of no layer


class VirtualTokens(Protocol):
    """An adapter that puts virtual tokens in front of the text, or of keys and values."""

    inner: nn.Module | None

    def prepare(self, plan: Plan) -> None:
        """Say in a plan what must be carried."""

    def require_whole(self, model: nn.Module, module: nn.Module) -> None:
        """Refuse a call that does not pass the model which the tokens enter."""

    def enter(self, frame: Any, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]:
        """The inputs of the model inside, by name, as they are with the tokens."""

    def fronts(self, frame: Any, block: Any) -> list[Callable[[], Any]]:
        """What makes the keys and values in front of those of a block's attentions."""


class Plan:
    """What one composition does in one model.

    Attributes:
        composition: The composition.
        branch: For each site (by its place in the map) the node that writes into the branch.
        stream: The node that writes into the stream.
        taps: For each site the reads that must be carried to it.
        norms: For each norm (by its place in the map) whose weights are used, where not the base's.
        norm_modules: The base's module of each of those norms.
        heads: Whose head is used where, by the path of the model's own; not there where it is the model's own.
        labels: The name of the one head whose labels the loss is computed for, or ``None``.
        named_heads: On a `ModelWithHeads` model the heads in use: a name, several, a block with one of these a child, or ``None``.
        replicate: The block that repeats the inputs, or ``None``.
        looked_up: The path of the model's token embeddings, where something is added to what they return.
        crossing: Whether an adapter reads hidden states of other layers than its own.
        mixing: The adapters that mix positions, and whether they do in a decoder.
        prompt: The adapter that puts virtual tokens in front of the text or of keys and values, or ``None``.
        injected: The names of those adapters that another library's modules compute.
    """

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.branch: dict[int, Node] = {}
        self.stream: dict[int, Node] = {}
        self.taps: dict[int, frozenset[str]] = {}
        self.norms: dict[int, StandIns] = {}
        self.norm_modules: dict[int, nn.Module] = {}
        self.heads: dict[str, StandIns] = {}
        self.labels: str | None = None
        self.named_heads: str | SeveralHeads | tuple[Any, ...] | None = None
        self.replicate = replicate_in(composition)
        self.looked_up: str | None = None
        self.mixing: dict[str, bool] = {}
        self.injected: tuple[str, ...] = ()
        self.crossing = False
        self.prompt: VirtualTokens | None = None

    @property
    def looks_back(self) -> bool:
        """Whether an adapter in a decoder needs earlier positions, which a key/value cache keeps back."""
        return any(self.mixing.values())

    def nodes(self) -> list[Node]:
        """Every node of the plan."""
        return [n for nodes in (self.branch, self.stream) for top in nodes.values() for n in walk(top)]


def make_plan(
    composition: Composition,
    sites: SiteMap,
    at: Mapping[int, SiteAdapters],
    norms: Mapping[int, Callable[[str], nn.Module | None]],
    norm_modules: Mapping[int, nn.Module],
) -> Plan:
    """The plan of a composition.

    Raises:
        CompositionError: If the composition cannot be computed in this model: a fusion without weights, or whose members
            meet at no site; norms that would be weighed.
    """
    plan = Plan(composition)
    _check_layers(composition, sites)
    for index in sorted(at):
        _plan_site(plan, index, sites.places[index], at[index], sites)
    for index, own in norms.items():
        program = norm_stand_ins(composition, own)
        if program is not None:
            plan.norms[index] = program
            plan.norm_modules[index] = norm_modules[index]
    _check_meeting(composition, at)
    return plan


def _plan_site(plan: Plan, index: int, site: Site, here: SiteAdapters, sites: SiteMap) -> None:
    key = sites.key_of(site)
    stack = site.stack.removeprefix(sites.prefix)
    needs: set[str] = set()
    for writes, nodes in (("branch", plan.branch), ("stream", plan.stream)):

        def adapter(name: str, writes: str = writes) -> AdapterModule | None:
            found = here.adapter(name)
            if found is not None and found.mixes_positions:
                plan.mixing[name] = plan.mixing.get(name, False) or found.causal
            return None if found is None else found.writing(writes)

        def leaves_out(block: Drop) -> bool:
            if site.kind in _EDGES:
                return False
            return block.leaves_out(stack, site.layer, sites.numbers[site.stack].index(site.layer))

        node = node_for(plan.composition, adapter, here.fusion, key, leaves_out=leaves_out, backwards=site.backwards)
        if node is None:
            continue
        nodes[index] = node
        if site.extra.get("channels") == 1:
            _refuse_positions(plan.composition, node, key)
        on_stream = site.holds_stream(writes == "stream")
        made_here = {"output", "stream", "normed"} if on_stream else {"stream", "normed"} if site.summed else {"output"}
        made_of_residual = ("output", "stream", "normed")
        needs |= {"residual" if need in made_of_residual else need for need in node.required_reads - made_here}
    if index in plan.branch and index in plan.stream:
        _refuse_two_places(plan.composition, here, key)
    plan.taps[index] = frozenset(needs)
    plan.crossing |= any(need.startswith(HIDDEN) for need in needs)


def _refuse_positions(composition: Composition, node: Node, key: str) -> None:
    """Refuse to give out positions where the second dimension has the channels."""
    if any(isinstance(part, ByPositions) for part in walk(node)):
        raise CompositionError(
            f"{composition!r}: a Split gives out positions, but at {key} the second dimension has the channels of an image; "
            "give out rows (BatchSplit, MixedBatch)"
        )


def _refuse_two_places(composition: Composition, here: SiteAdapters, key: str) -> None:
    """A learned weighing needs its members in one place: some before and some behind the norm would be two weighings."""
    for block in fusions_in(composition):
        places: dict[str, str] = {}
        for name in names_in(block):
            module = here.adapter(name)
            if module is not None:
                for part in module.parts.values():
                    places.setdefault(part.writes, name)
        if len(places) > 1:
            raise CompositionError(
                f"{block!r}: at {key} {places['branch']!r} writes into the branch and {places['stream']!r} into the "
                "stream, so they cannot be weighed against each other; fuse adapters that write alike, or Stack them"
            )


def _check_layers(composition: Composition, sites: SiteMap) -> None:
    """Refuse to leave out layers that are not there."""
    stacks = {stack.removeprefix(sites.prefix): layers for stack, layers in sites.stacks.items()}
    for block in composition.walk() if isinstance(composition, Block) else ():
        if not isinstance(block, Drop):
            continue
        layers, most = block.options["layers"], max(stacks.values(), default=0)
        if isinstance(layers, int) and layers > most:
            raise CompositionError(f"{block!r} leaves out the first {layers} layers, and there are {most}")
        numbers = {stack.removeprefix(sites.prefix): known for stack, known in sites.numbers.items()}
        try:
            check_layers("Drop", "layers", layers, numbers)
        except ConfigError as error:
            raise CompositionError(f"{block!r}: {error}") from error


def _check_meeting(composition: Composition, at: Mapping[int, SiteAdapters]) -> None:
    """A fusion whose members share no site has nothing to choose between."""
    for block in composition.walk() if isinstance(composition, Block) else ():
        names = [c for c in block.children if isinstance(c, str)] if isinstance(block, Learned) else []
        if len(names) < 2 or any(_decides_across_sites(here.fusion(block.name)) for here in at.values()):  # type: ignore[attr-defined]
            continue
        most = max((sum(here.adapter(n) is not None for n in names) for here in at.values()), default=0)
        if most < 2:
            raise CompositionError(
                f"{block!r}: its adapters share no site, so at every site there is only one to choose; fuse adapters "
                "that stand at the same kind of site, or use Stack"
            )


def _decides_across_sites(fusion: LearnedModule | None) -> bool:
    return fusion is not None and fusion.across_sites


def refuse_rows(plan: Plan, model: nn.Module, sites: SiteMap) -> None:
    """Refuse compositions by rows or positions, and methods that mix positions, where the rows are not the first dimension.

    Raises:
        CompositionError: If such a block or method writes to a site whose rows are another dimension or are not known, or the
            model's attention takes positions first.
    """
    composition = plan.composition
    parts = tuple(composition.walk()) if isinstance(composition, Block) else ()
    by_rows = any(isinstance(part, (BatchSplit, MixedBatch, Replicate)) for part in parts)
    if not (by_rows or plan.mixing or any(isinstance(part, Split) for part in parts)):
        return
    for site in (sites.places[index] for index in sorted({*plan.branch, *plan.stream})):
        if site.rows is None and by_rows:
            raise CompositionError(
                f"{composition!r} gives out the rows of the batch, and it is not known which they are at {site.key}: a part of the "
                "model that is run by itself, or on as many images as there are. Leave it out (sites=, leave_out=), or use one "
                "adapter for all rows"
            )
        if site.rows:
            raise CompositionError(
                f"{composition!r} needs the batch first, but at {site.key} the rows of the batch are dimension {site.rows}; build "
                "the model with batch_first=True if it can be, or use one adapter for all rows and positions"
            )
    for name, module in base_modules(model) if by_rows or plan.mixing else ():
        if isinstance(module, nn.MultiheadAttention) and not module.batch_first:
            raise CompositionError(
                f"{composition!r} needs the batch first, but {name or 'the model'} takes positions first; build the model "
                "with batch_first=True"
            )


def replicate_in(composition: Composition) -> Replicate | None:
    """The block that repeats the inputs, if there is one.

    Raises:
        CompositionError: If it stands where the rows have been given out already.
    """
    parts = list(composition.walk()) if isinstance(composition, Block) else []
    found = [p for p in parts if isinstance(p, Replicate)]
    if len(found) > 1:
        raise CompositionError(f"{composition!r} has several Replicate blocks; give all children to one")
    outer = composition
    while found and isinstance(outer, Block) and not isinstance(outer, Replicate):
        inside = [c for c in outer.children if isinstance(c, Block) and found[0] in list(c.walk())]
        if outer.kind != "stack":
            raise CompositionError(
                f"{composition!r}: a Replicate can stand alone or in a Stack, not in a {type(outer).__name__}"
            )
        outer = inside[0]
    return found[0] if found else None
