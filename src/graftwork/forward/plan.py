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
    """An adapter that puts virtual tokens in front of the text, or of keys and values; see `graftwork.peft_bridge`."""

    inner: nn.Module | None

    def prepare(self, plan: Plan) -> None: ...

    def require_whole(self, model: nn.Module, module: nn.Module) -> None: ...

    def enter(self, frame: Any, names: tuple[str, ...], named: dict[str, Any]) -> dict[str, Any]: ...

    def fronts(self, frame: Any, block: Any) -> list[Callable[[], Any]]: ...


class Plan:
    """What one composition does in one model; sites and norms are numbered by their place in the map of sites."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.branch: dict[int, Node] = {}  # for each site the node that writes into the branch
        self.stream: dict[int, Node] = {}  # for each site the node that writes into the stream
        self.taps: dict[int, frozenset[str]] = {}  # for each site the reads that must be carried to it
        self.norms: dict[int, StandIns] = {}  # for each norm what replaces the base's, if anything does
        self.norm_modules: dict[int, nn.Module] = {}  # the base's module of each of those norms
        self.heads: dict[str, StandIns] = {}  # what replaces the model's own head, by path, if anything does
        self.labels: str | None = None  # the one head whose labels the loss is computed for
        # On a `ModelWithHeads` model the heads in use: a name, several, a block with one of these a child, or None.
        self.named_heads: str | SeveralHeads | tuple[Any, ...] | None = None
        self.replicate = _replicate_in(composition)  # the block that repeats the inputs, if there is one
        self.by_rows = any(isinstance(b, (BatchSplit, MixedBatch, Replicate)) for b in _blocks_in(composition))
        self.looked_up: str | None = (
            None  # the path of the token embeddings, where something is added to what they return
        )
        self.mixing: dict[str, bool] = {}  # the adapters that mix positions, and whether they do in a decoder
        self.injected: tuple[str, ...] = ()  # the adapters that another library's modules compute
        self.crossing = False  # whether an adapter reads hidden states of other layers than its own
        self.prompt: VirtualTokens | None = None
        self.trunk: frozenset[str] = (
            frozenset()
        )  # the blocks before all adapters, if rows may repeat, see `shared_trunk`
        self.work: dict[Any, Any] = {}  # for each `Ports` that was met what it does under this plan, see `work_of`

    @property
    def looks_back(self) -> bool:
        """Whether an adapter in a decoder needs earlier positions, which a key/value cache keeps back."""
        return any(self.mixing.values())

    def nodes(self) -> list[Node]:
        """Every node of the plan."""
        return [n for nodes in (self.branch, self.stream) for top in nodes.values() for n in walk(top)]


def _blocks_in(composition: Composition) -> list[Block]:
    parts = composition.walk() if isinstance(composition, Block) else ()
    return [part for part in parts if isinstance(part, Block)]


def make_plan(
    composition: Composition,
    sites: SiteMap,
    at: Mapping[int, SiteAdapters],
    norms: Mapping[int, Callable[[str], nn.Module | None]],
    norm_modules: Mapping[int, nn.Module],
) -> Plan:
    """The plan of a composition.

    Raises:
        CompositionError: If the composition cannot be computed in this model: a fusion without weights, or whose adapters
            share no site; norms that would be weighed.
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
        if site.extra.get("channels") == 1 and any(isinstance(part, ByPositions) for part in walk(node)):
            raise CompositionError(
                f"{plan.composition!r}: a Split gives out positions, but at {key} the second dimension has the channels of an "
                "image; give out rows (BatchSplit, MixedBatch)"
            )
        on_stream = site.holds_stream(writes == "stream")
        made_here = {"output", "stream", "normed"} if on_stream else {"stream", "normed"} if site.summed else {"output"}
        for need in node.required_reads - made_here:
            needs.add("residual" if need in ("output", "stream", "normed") else need)
    if index in plan.branch and index in plan.stream:
        _refuse_two_places(plan.composition, here, key)
    plan.taps[index] = frozenset(needs)
    plan.crossing |= any(need.startswith(HIDDEN) for need in needs)


def _refuse_two_places(composition: Composition, here: SiteAdapters, key: str) -> None:
    """Refuse a learned weighing of adapters some of which write before the norm and some after it: it would be two weighings."""
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
    for block in _blocks_in(composition):
        if not isinstance(block, Drop):
            continue
        layers, most = block.options["layers"], max(sites.stacks.values(), default=0)
        if isinstance(layers, int) and layers > most:
            raise CompositionError(f"{block!r} leaves out the first {layers} layers, and there are {most}")
        numbers = {stack.removeprefix(sites.prefix): known for stack, known in sites.numbers.items()}
        try:
            check_layers("Drop", "layers", layers, numbers)
        except ConfigError as error:
            raise CompositionError(f"{block!r}: {error}") from error


def _check_meeting(composition: Composition, at: Mapping[int, SiteAdapters]) -> None:
    """Refuse a fusion whose adapters share no site: it has nothing to choose between."""
    for block in _blocks_in(composition):
        names = [c for c in block.children if isinstance(c, str)] if isinstance(block, Learned) else []
        fusions = [here.fusion(block.name) for here in at.values()] if isinstance(block, Learned) else []
        if len(names) < 2 or any(fusion is not None and fusion.across_sites for fusion in fusions):
            continue
        most = max((sum(here.adapter(n) is not None for n in names) for here in at.values()), default=0)
        if most < 2:
            raise CompositionError(
                f"{block!r}: its adapters share no site, so at every site there is only one to choose; fuse adapters "
                "that are at the same kind of site, or use Stack"
            )


def refuse_rows(plan: Plan, model: nn.Module, sites: SiteMap) -> None:
    """Refuse compositions by rows or positions, and methods that mix positions, where the rows are not the first dimension.

    Raises:
        CompositionError: If such a block or method writes to a site whose rows are in another dimension or are not known, or
            the model's attention takes positions first.
    """
    composition = plan.composition
    if not (plan.by_rows or plan.mixing or any(isinstance(block, Split) for block in _blocks_in(composition))):
        return
    for site in (sites.places[index] for index in sorted({*plan.branch, *plan.stream})):
        if site.rows is None and plan.by_rows:
            raise CompositionError(
                f"{composition!r} gives out the rows of the batch, and it is not known which they are at {site.key}: this part of "
                "the model runs by itself, or on any number of images. Leave it out (sites=, leave_out=), or use one adapter for "
                "all rows"
            )
        if site.rows:
            raise CompositionError(
                f"{composition!r} needs the batch first, but at {site.key} the rows of the batch are dimension {site.rows}; build "
                "the model with batch_first=True if it can be, or use one adapter for all rows and positions"
            )
    for name, module in base_modules(model) if plan.by_rows or plan.mixing else ():
        if isinstance(module, nn.MultiheadAttention) and not module.batch_first:
            raise CompositionError(
                f"{composition!r} needs the batch first, but {name or 'the model'} takes positions first; build the model "
                "with batch_first=True"
            )


def _replicate_in(composition: Composition) -> Replicate | None:
    """The block that repeats the inputs, if there is one; refused where the rows belong to children of another block."""
    found = [block for block in _blocks_in(composition) if isinstance(block, Replicate)]
    if len(found) > 1:
        raise CompositionError(f"{composition!r} has several Replicate blocks; give all children to one")
    outer = composition
    while found and isinstance(outer, Block) and not isinstance(outer, Replicate):
        if outer.kind != "stack":
            raise CompositionError(
                f"{composition!r}: a Replicate can be used alone or in a Stack, not in a {type(outer).__name__}"
            )
        outer = next(child for child in outer.children if found[0] in _blocks_in(child))
    return found[0] if found else None
