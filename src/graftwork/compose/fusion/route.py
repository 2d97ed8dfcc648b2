"""Route: a sparsely-gated mixture (Shazeer et al. 2017, arXiv:1701.06538) of adapters that are trained already.

    δ = Σ_n g_n(h) z_n

with z_n the n-th child's addition and g the noisy top-k gate of `methods/layers/top_k_gating.py`, for each token, of the
site's read h; or one gate for each layer, of what enters it, for all of its sites (mixtures of LoRA experts: Wu et al. 2024,
arXiv:2404.13628; Buehler & Buehler 2024, arXiv:2402.07148); or a gate of `route_gates.py`. Where all children are plain
bottlenecks, or LoRAs, of one shape, only the chosen are computed if that pays (`methods/layers/experts.py`); otherwise all are,
the banked ones as one bank, and most are weighed by 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graftwork.compose.blocks import Composition, Learned
from graftwork.compose.fusion.learned import LearnedConfig, LearnedModule, register
from graftwork.compose.fusion.route_gates import AffinityGate, Arrows
from graftwork.compose.nodes import Leaf, Node, Pool
from graftwork.compose.reads import Reads
from graftwork.compose.rowbank import RowBank
from graftwork.errors import ConfigError
from graftwork.methods import Place
from graftwork.methods.layers.experts import Experts, mixture
from graftwork.methods.layers.top_k_gating import Gates, NoisyGate, balance, best_of
from graftwork.options import flags, one_of, within


class Route(Learned):
    """A learned gate over the children, for each token: the k best are added, weighed by a softmax over these k.

    Each child has a row of the gate of its own, so a composition under its name can have fewer children than it was added with, not
    others.

    Args:
        *children: The pool, in no particular order.
        name: The name of the gate. By default made of the children.
        norms: ``"base"`` uses the base's norms where the children's own differ; without it that is an error.

    Example:
        >>> adapters.add_fusion(gw.Route("a", "b", name="ab"))
        >>> adapters.train_only("ab")
    """

    kind = "route"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteConfig(LearnedConfig):
    """How the gate is made.

    Attributes:
        top_k: How many children each position uses; with 1 the gate learns by its losses alone.
        scope: ``"site"``, a gate for each site; or ``"layer"``, one for each layer, which reads what enters the layer: bottlenecks
            and LoRAs, which meet at no site, can then be routed against each other.
        gate: ``"learned"``; ``"arrow"`` (Ostapenko et al. 2024, arXiv:2405.11157) for LoRAs, which needs no training: the
            logit of the n-th is |v_n · x|, with v_n the first right singular vector of B_n A_n; or ``"phatgoose"`` (Muqeeth et al.
            2024, arXiv:2402.05859), whose vector v_n for each child is trained with that child alone, in a block of one
            (``top_k=1``), and joined with others by `Adapters.join_gates`.
        reads: What the gate reads: ``"normed"``, the tensor that a Pfeiffer adapter reads at the site, or ``"output"``, the
            branch's output. At a projection, which has no stream, ``"normed"`` is the module's input.
        noise: Whether there is noise on the gate while it learns; without it the load is no loss.
        importance: Weight of the loss CV²(importance): 0.1 in the paper, 0.01 in the authors' code.
        load: Weight of the loss CV²(load), likewise.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add_fusion(gw.Route("a", "b", name="ab"), gw.RouteConfig(top_k=1))
    """

    top_k: int = 2
    scope: str = "site"
    gate: str = "learned"
    reads: str = "normed"
    noise: bool = True
    importance: float = 0.1
    load: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, "top_k", 1, whole=True)
        object.__setattr__(self, "top_k", int(self.top_k))
        one_of(self, "scope", ("site", "layer"))
        one_of(self, "gate", ("learned", "arrow", "phatgoose"))
        if self.gate != "learned" and self.scope == "layer":
            raise ConfigError(f"RouteConfig: gate is {self.gate!r}, which each site has for itself; give scope='site'")
        one_of(self, "reads", ("normed", "output"))
        flags(self, "noise")
        within(self, "importance", 0.0)
        within(self, "load", 0.0)

    def shared(self, block: Learned, places: Sequence[Place]) -> nn.Module | None:
        if self.scope == "site":
            return None
        gates = nn.ModuleDict()
        for place in places:
            if _layer(place) not in gates:
                width = int(place.site.extra.get("layer_width", place.site.width))
                gates[_layer(place)] = self.new_gate(block, width)
        return gates

    def new_gate(self, block: Learned, width: int) -> NoisyGate:
        """A gate over a pool that reads ``width`` features."""
        return NoisyGate(len(block.children), width, noise=self.noise, dtype=self.torch_dtype)

    def build(self, block: Learned, place: Place, shared: nn.Module | None = None) -> RouteModule:
        if self.top_k > len(block.children):
            raise ConfigError(
                f"RouteConfig: top_k is {self.top_k}, but {block!r} has {len(block.children)} children; give a number up to that"
            )
        site = place.site
        if isinstance(shared, nn.ModuleDict):
            return RouteModule(block.children, "layer_input", self, None, _layer(place), shared)
        if self.gate == "arrow":
            return RouteModule(block.children, "input", self, None)
        reads = "input" if site.kind == "projection" and self.reads == "normed" else self.reads
        width = site.input_width if reads == "input" else site.width
        if self.gate == "phatgoose":
            return RouteModule(block.children, reads, self, AffinityGate(len(block.children), width, self.torch_dtype))
        return RouteModule(block.children, reads, self, self.new_gate(block, width))


def _layer(place: Place) -> str:
    """What the sites of one layer have in common; a dot would split the name of a parameter."""
    return f"{place.site.stack}/{place.site.layer}".replace(".", "/")


class RouteModule(LearnedModule):
    """The gate at one site: its own, that of its layer, or none where the LoRAs themselves decide."""

    reads: str
    gate: NoisyGate | AffinityGate | None

    def __init__(
        self,
        pool: Sequence[Composition],
        reads: str,
        config: RouteConfig,
        gate: NoisyGate | AffinityGate | None,
        layer: str = "",
        shared: nn.Module | None = None,
    ) -> None:
        super().__init__(pool=pool, reads=reads, shared=shared)
        self.config = config
        self.across_sites = shared is not None
        if isinstance(shared, nn.ModuleDict):
            self.__dict__["gate"] = shared[layer]  # of the layer: no child of any of its sites
        else:
            self.gate = gate


class Routed(Pool):
    """Route at one site."""

    def __init__(self, block: Route, children: Sequence[Node | None], module: RouteModule, site: str) -> None:
        super().__init__(children)
        self.required_reads |= {module.reads}
        self.module, self.name, self.site = module, block.name, site
        self.rows = module.places(block)
        self.top_k = min(module.config.top_k, len(self.rows))
        leaves = [c.module for c in children if isinstance(c, Leaf)]
        banks = RowBank.of(leaves) if len(leaves) == len(children) else []
        self.absent = [n for n, child in enumerate(children) if child is None]
        self.arrows = Arrows(block, children) if module.config.gate == "arrow" else None
        self.alike = banks[0][0] if len(banks) == 1 and len(banks[0][0].members) == len(children) else None

    def __call__(self, reads: Reads) -> Tensor:
        gates = self._gates(reads)
        if reads.around.record is not None:
            reads.around.record.setdefault(self.name, {})[self.site] = gates.dense().detach()
        if self.alike is not None and not any(m.random for m in self.alike.members):
            return mixture(self._experts(self.alike), reads.get(self.alike.members[0].reads), gates)
        return self._all_of_them(reads, gates.dense())

    def _gates(self, reads: Reads) -> Gates:
        read = reads.get(self.module.reads)
        if self.arrows is not None:
            return best_of(self.arrows(read), self.top_k)
        if not self.module.across_sites:
            return self._new_gates(reads, read)
        key = id(self.module.gate), self.name
        known = reads.around.memo.get(key)
        if known is None or known[0] is not read:  # the first site of the layer
            known = reads.around.memo[key] = read, self._new_gates(reads, read)
        gates: Gates = known[1]
        return gates

    def _new_gates(self, reads: Reads, read: Tensor) -> Gates:
        module = self.module
        if isinstance(module.gate, AffinityGate):
            affine: Gates = module.gate(read, self.top_k, self.rows, self.absent)
            return affine
        training = module.training and module.trainable
        assert module.gate is not None
        gates: Gates = module.gate(read, self.top_k, noisy=training, rows=self.rows)
        if training:
            kept = reads.around.padding_mask(read)
            loss = balance(gates, kept, importance=module.config.importance, load=module.config.load)
            if loss is not None:
                reads.around.add_loss(loss)
        return gates

    def _experts(self, alike: RowBank) -> Experts:
        down, bias, up, constant = alike.stacked()
        return Experts(down, bias, up, constant, alike.members[0].segments()[0].activation)

    def _all_of_them(self, reads: Reads, weights: Tensor) -> Tensor:
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        by_place = (
            weights if inverse == list(range(len(inverse))) else torch.stack([weights[..., n] for n in inverse], dim=-1)
        )
        total, count = torch.zeros_like(reads.value), 0
        if self.bank is not None:
            count = len(self.bank.members)
            stacked, banked = self.bank.stacked(), by_place[..., :count]
            gains = self.bank.gains(reads)
            features = self.bank.features(reads, stacked)
            total = self.bank.mix(banked if gains is None else banked * gains.to(banked.dtype), features, stacked)
        for n, delta in enumerate(self.other_deltas(reads), start=count):
            if delta is not None:
                total = total + by_place[..., n : n + 1].to(delta.dtype) * delta
        return total + 0.0 * weights.sum().to(total.dtype) if torch.is_grad_enabled() else total


register(Route, RouteConfig, Routed)
