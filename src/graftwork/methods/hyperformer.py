"""Hyperformer and Hyperformer++: one hypernetwork makes the adapters of all tasks (Mahabadi et al. 2021, arXiv:2106.04489).

    y ← y + γ ⊙ norm(U gelu(D y + b_D) + b_U) + β         behind attention and behind the feed-forward, never behind cross-attention

    D, b_D, U, b_U, γ, β = G I + c, one G and c for each of the six         the generators
    I = norm(W_2 relu(W_1 z + b_1) + b_2)                                   the condition

- **Hyperformer++**: z = [z_task ; z_layer ; z_kind] and one set of generators for all layers and both kinds of sites.
- **Hyperformer**: z = z_task, and generators for each layer and kind of site.

A stack of layers has one hypernetwork: a T5's encoder and decoder one each; the tasks' embeddings are read by both. All
matrices start from N(0, 1e-2), biases at zero, embeddings from N(0, 1): with the norm in front of the generators γ starts with mean
0 and standard deviation 0.08, and that is what keeps the adapter small, no U at zero. The norm behind W_2 is that of the authors'
<<<<<<< HEAD
code for Hyperformer++, and stands in both here. The paper trains T5's norms too, on all tasks at once, one task a batch, each drawn
∝ n^(1/10) of its n rows: a recipe does so by itself, with a head a task.
=======
code for Hyperformer++, and stands in both here. The paper trains T5's norms too, on all tasks at once, one task a batch.

In T5 the adapter stands after the branch's dropout, so that what it adds is never dropped. The authors have it inside, before the
dropout; for that, give `attach` sites whose output is that of the module before it, such as
``replace(site, output=gw.Tap("encoder.block.0.layer.1.DenseReluDense", "output"))``. In evaluation the two are the same.
>>>>>>> methods
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.layers.activations import ACTIVATIONS, canonical
from graftwork.methods.layers.contract import READS, AdapterConfig, Place
from graftwork.methods.layers.hypernetwork import Condition, Generators, HyperModule, Hypernetworks
from graftwork.methods.layers.layerwise import check_layers, settle_places, stands_at
from graftwork.methods.layers.members import member_names
from graftwork.methods.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperformer(AdapterConfig):
    """Generators for each layer and kind of site, their condition the task alone.

    One adapter serves all its tasks; a composition names one of them, ``"hyper:mnli"``. T5-base with 8 tasks and width 24:
    122,312,960 weights, 6.9 % of the base for each task.

    Attributes:
        tasks: The tasks' names. With one the adapter's own name is enough.
        sites: Kinds of sites it stands at. ``"attention"`` includes mixers.
        reads: As in `Bottleneck`.
        reduction_factor: Width of the model over that of the bottleneck, 32 in the paper (and 16).
        bottleneck_size: That width itself, in the place of a factor.
        activation: The non-linearity, one of `graftwork.methods.layers.activations.ACTIVATIONS`.
        embedding_size: Width of each embedding, and of the condition.
        hidden_size: Width of the hidden layer between them.
        init: ``"normal"``, or ``"zero"``: γ and β start at zero, and with them what the adapter adds.
        init_std: Standard deviation that the matrices start with.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused.
    """

    method: ClassVar[str] = "hyperformer"
    shares_generators: ClassVar[bool] = False

    norms: str = "own"
    tasks: tuple[str, ...] = ("task",)
    sites: tuple[str, ...] = ("attention", "feed_forward")
    reads: str = "output"
    reduction_factor: float | None = None
    bottleneck_size: int | None = None
    activation: str = "gelu_tanh"
    embedding_size: int = 64
    hidden_size: int = 128
    init: str = "normal"
    init_std: float = 1e-2
    leave_out: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tasks", member_names(self, "tasks"))
        settle_places(self)
        one_of(self, "reads", READS)
        one_of(self, "init", ("normal", "zero"))
        one_of(self, "activation", ACTIVATIONS)
        object.__setattr__(self, "activation", canonical(self.activation))
        within(self, "init_std", 0.0, 10.0)
        for field in ("embedding_size", "hidden_size"):
            within(self, field, 1, whole=True)
            object.__setattr__(self, field, int(getattr(self, field)))
        self._settle_size()

    def _settle_size(self) -> None:
        """One of the two sizes, one number for all layers, since one generator makes them all."""
        if self.reduction_factor is not None and self.bottleneck_size is not None:
            raise ConfigError(
                f"{type(self).__name__}: reduction_factor={self.reduction_factor!r} and bottleneck_size="
                f"{self.bottleneck_size!r} say the same thing twice; give one"
            )
        if self.bottleneck_size is not None:
            within(self, "bottleneck_size", 1, whole=True)
            object.__setattr__(self, "bottleneck_size", int(self.bottleneck_size))
            return
        if self.reduction_factor is None:
            object.__setattr__(self, "reduction_factor", 32)
        within(self, "reduction_factor", 1e-3)

    @property
    def members(self) -> tuple[str, ...]:
        return self.tasks

    def with_members(self, members: Sequence[str]) -> Hyperformer:
        return dataclasses.replace(self, tasks=tuple(members))

    def exported(self) -> Bottleneck:
        """A bottleneck with a norm behind it."""
        return Bottleneck(
            sites=self.sites,
            reads=self.reads,
            reduction_factor=self.reduction_factor,
            bottleneck_size=self.bottleneck_size,
            activation=self.activation,
            norm_after=True,
            leave_out=self.leave_out,
            norms=self.norms,
            dtype=self.dtype,
        )

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers(type(self).__name__, "leave_out", self.leave_out, layers)

    def size_at(self, width: int) -> int:
        """The bottleneck's width in a stream of ``width``."""
        return self.bottleneck_size or max(1, int(width / (self.reduction_factor or 1)))

    def generators(self, width: int) -> Generators:
        """New generators for a stream of ``width``."""
        size = self.size_at(width)
        zero = self.init == "zero"
        return Generators(self.embedding_size, width, size, self.init_std, self.torch_dtype, zero=zero)

    def shared(self, places: Sequence[Place]) -> Hypernetworks:
        stacks: dict[str, list[Place]] = {}
        for place in places:
            if stands_at(self, place):
                stacks.setdefault(place.site.stack, []).append(place)
        conditions = {stack: self._condition(stack, here) for stack, here in stacks.items()}
        return Hypernetworks(self.tasks, self.embedding_size, self.torch_dtype, conditions)

    def _condition(self, stack: str, places: Sequence[Place]) -> Condition:
        """The hypernetwork of one stack."""
        return Condition(self.embedding_size, self.hidden_size, self.init_std, self.torch_dtype)

    def build(self, place: Place, shared: nn.Module | None = None) -> HyperModule | None:
        if not isinstance(shared, Hypernetworks):
            raise ConfigError(
                f"{type(self).__name__}: build(place, {shared!r}) lacks the hypernetwork; give what shared(places) made"
            )
        if not stands_at(self, place):
            return None
        site = place.site
        return HyperModule(
            reads=self.reads,
            shared=shared,
            stack=site.stack,
            layer=site.layer,
            kind=site.kind,
            activation=self.activation,
            generators=None if self.shares_generators else self.generators(site.width),
        )


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class HyperformerPlusPlus(Hyperformer):
    """One set of generators for all layers and kinds of sites of a stack.

    T5-base with 8 tasks and width 24: 5,163,440 weights, 5,211,056 with the norms (2.338 %, 0.292 % a task).
    """

    method: ClassVar[str] = "hyperformer_plus_plus"
    shares_generators: ClassVar[bool] = True

    def _condition(self, stack: str, places: Sequence[Place]) -> Condition:
        widths = {place.site.width: place.site.key for place in places}
        if len(widths) > 1:
            raise ConfigError(
                f"{type(self).__name__}: the layers of {stack!r} differ in width "
                f"({', '.join(f'{w} at {key}' for w, key in widths.items())}), and one generator makes the weights of all; use "
                "Hyperformer, which has one for each, or leave_out= layers"
            )
        (width,) = widths
        return Condition(
            self.embedding_size,
            self.hidden_size,
            self.init_std,
            self.torch_dtype,
            layers=sorted({place.site.layer for place in places}),
            kinds=tuple(dict.fromkeys(place.site.kind for place in places)),
            generators=self.generators(width),
        )
