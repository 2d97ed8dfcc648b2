"""Hyperformer and Hyperformer++: one hypernetwork makes the adapters of all tasks (Mahabadi et al. 2021, arXiv:2106.04489).

    y ← y + γ ⊙ norm(U gelu(D y + b_D) + b_U) + β         after attention and after the feed-forward, never after cross-attention

    D, b_D, U, b_U, γ, β = G I + c, one G and c for each of the six         the generators
    I = norm(W_2 relu(W_1 z + b_1) + b_2)                                   the condition

- **Hyperformer++**: z = [z_task ; z_layer ; z_kind] and one set of generators for all layers and both kinds of sites.
- **Hyperformer**: z = z_task, and generators for each layer and kind of site.

Each stack of layers has one hypernetwork, in T5 one for the encoder and one for the decoder; both read the tasks' embeddings. All
matrices start from N(0, 1e-2), biases at zero, embeddings from N(0, 1). With the norm before the generators γ starts with mean
0 and standard deviation 0.08: that keeps the adapter small, not a U of zero. The norm after W_2 is that of the authors' code for
Hyperformer++, and is used in both here. The paper trains T5's norms too, on all tasks at once, one task a batch, each drawn
∝ n^(1/10) of its n rows; a recipe does the same, with a head for each task.

In T5 the adapter is after the branch's dropout, so that its addition is never dropped. The authors have it inside, before the
dropout; for that, pass `attach` sites whose output is that of the module before it, such as
``replace(site, output=gw.Tap("encoder.block.0.layer.1.DenseReluDense", "output"))``. In evaluation the two are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.bottleneck import Bottleneck
from graftwork.methods.layers.activations import settle_activation
from graftwork.methods.layers.bottleneck import refuse_two_sizes
from graftwork.methods.layers.contract import READS, AdapterConfig, Place
from graftwork.methods.layers.hypernetwork import Condition, Generators, HyperModule, Hypernetworks
from graftwork.methods.layers.layerwise import check_layers, puts_adapter_at, settle_places
from graftwork.methods.layers.members import member_names
from graftwork.methods.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperformer(AdapterConfig):
    """Generators for each layer and kind of site, which depend on the task only.

    One adapter serves all its tasks; a composition names one of them, ``"hyper:mnli"``. T5-base with 8 tasks and width 24:
    122,312,960 weights, 6.9 % of the base for each task.

    Attributes:
        tasks: The tasks' names. With one the adapter's own name is enough.
        sites: Kinds of sites that have an adapter. ``"attention"`` includes mixers.
        reads: As in `Bottleneck`.
        reduction_factor: Width of the model over that of the bottleneck, 32 in the paper (and 16).
        bottleneck_size: That width itself, in place of a factor.
        activation: The non-linearity, one of `graftwork.methods.layers.activations.ACTIVATIONS`.
        embedding_size: Width of each embedding, and of the condition.
        hidden_size: Width of the hidden layer between them.
        init: ``"normal"``, or ``"zero"``: γ and β start at zero, and so does the adapter's addition.
        init_std: Standard deviation of the matrices at the start.
        leave_out: Layers without the adapter.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("hyper", gw.Hyperformer(tasks=("mnli", "qqp"), bottleneck_size=4))
        >>> adapters.active = "hyper:mnli"
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
        settle_activation(self)
        within(self, "init_std", 0.0, 10.0)
        self._settle_whole("embedding_size", "hidden_size")
        # One size for all layers, since one generator may make them all.
        refuse_two_sizes(self)
        if self.bottleneck_size is not None:
            self._settle_whole("bottleneck_size")
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
        """Return a bottleneck with a norm after it."""
        same = ("sites", "reads", "reduction_factor", "bottleneck_size", "activation", "leave_out", "norms", "dtype")
        return Bottleneck(**{option: getattr(self, option) for option in same}, norm_after=True)

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        check_layers(type(self).__name__, "leave_out", self.leave_out, layers)

    def _generators(self, width: int) -> Generators:
        """New generators for a stream of ``width``."""
        size = self.bottleneck_size or max(1, int(width / (self.reduction_factor or 1)))
        zero = self.init == "zero"
        return Generators(self.embedding_size, width, size, self.init_std, self.torch_dtype, zero=zero)

    def shared(self, places: Sequence[Place]) -> Hypernetworks:
        stacks: dict[str, list[Place]] = {}
        for place in places:
            if puts_adapter_at(self, place):
                stacks.setdefault(place.site.stack, []).append(place)
        conditions = {stack: self._condition(stack, here) for stack, here in stacks.items()}
        return Hypernetworks(self.tasks, self.embedding_size, self.torch_dtype, conditions)

    def _condition(self, stack: str, places: Sequence[Place], **shared: Any) -> Condition:
        """The hypernetwork of one stack."""
        return Condition(self.embedding_size, self.hidden_size, self.init_std, self.torch_dtype, **shared)

    def build(self, place: Place, shared: nn.Module | None = None) -> HyperModule | None:
        if not isinstance(shared, Hypernetworks):
            raise ConfigError(
                f"{type(self).__name__}: build(place, {shared!r}) lacks the hypernetwork; give what shared(places) returned"
            )
        if not puts_adapter_at(self, place):
            return None
        generators = None if self.shares_generators else self._generators(place.site.width)
        return HyperModule(self.reads, shared, place.site, self.activation, generators)


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class HyperformerPlusPlus(Hyperformer):
    """One set of generators for all layers and kinds of sites of a stack.

    T5-base with 8 tasks and width 24: 5,163,440 weights, 5,211,056 with the norms (2.338 %, 0.292 % a task).

    Example:
        >>> adapters.add("hyper", gw.HyperformerPlusPlus(tasks=("mnli", "qqp"), bottleneck_size=4))
        >>> adapters.active = gw.BatchSplit("hyper:mnli", "hyper:qqp", batch_sizes=[1, 1])
    """

    method: ClassVar[str] = "hyperformer_plus_plus"
    shares_generators: ClassVar[bool] = True

    def _condition(self, stack: str, places: Sequence[Place], **shared: Any) -> Condition:
        widths = {place.site.width: place.site.key for place in places}
        if len(widths) > 1:
            raise ConfigError(
                f"{type(self).__name__}: the layers of {stack!r} differ in width "
                f"({', '.join(f'{w} at {key}' for w, key in widths.items())}), and one generator makes the weights of all; use "
                "Hyperformer, which has one for each, or leave_out= layers"
            )
        (width,) = widths
        return super()._condition(
            stack,
            places,
            layers=sorted({place.site.layer for place in places}),
            kinds=tuple(dict.fromkeys(place.site.kind for place in places)),
            generators=self._generators(width),
        )
