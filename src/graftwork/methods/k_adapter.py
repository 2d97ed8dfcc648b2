"""K-Adapter (Wang et al. 2020, arXiv:2002.01808): a network beside the model, which joins it at the end.

    x_i = H_{l_i} + o_{i−1}                              H_l: the model's hidden states, 0 the embeddings; o_{−1} = 0
    o_i = U_i layers_i(D_i x_i + b) + b' + x_i           layers_i: two post-norm transformer layers of width 768
    joined at the last hidden states H:    add:     H + o_K                  concat:     W [H; o_K] + b

The model's own layers see nothing of it. Knowledge is trained apart and combined without forgetting: every kind of knowledge
is an adapter, several are added (``Average(..., weights=[1, 1], normalize=False)`` over ``combine="add"``).

After that the paper tunes the base on a task, with the adapters fixed: in a recipe ``knowledge = ["facts"]`` and ``base =
"trained"`` in ``[tasks.NAME]``, with ``adapters = "trained"`` for both together. The head is the task's alone there, as in the
paper; what differs is the head itself (the paper's depends on the task), and that several adapters under a task stand one after
the other, where the paper joins the outputs of all.

The hidden states are chosen by number. D and U start from N(0, 2e-4), the layers as BERT's, from N(0, 0.02). The half of W that
takes H starts as the identity, and the other from N(0, 0.02) (the authors' is a linear layer's usual start). Attention is given
the model's padding, which the authors' code leaves out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import ACTIVATIONS, canonical
from graftwork.methods.layers.contract import AdapterConfig, Place
from graftwork.methods.layers.side_network import KAdapterModule
from graftwork.methods.registry import register
from graftwork.options import one_of, within


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class KAdapter(AdapterConfig):
    """A side network of transformer layers over chosen hidden states, one at the end of each stack of layers.

    RoBERTa-large, hidden states 0, 11 and 22: 3 · 15,750,400 weights with ``combine="add"``, 2,098,176 more with
    ``"concat"``. A decoder hides later positions here too; it cannot generate with a cache, which keeps the earlier ones back.

    Attributes:
        layers: Numbers of the hidden states that are read, 0 for the embeddings; by default those in front of the first, the
            middle and the last layer.
        combine: ``"concat"`` or ``"add"``, see above.
        size: Width of the side layers.
        heads: Number of their attention heads, which has to divide it.
        inner: Width between their two feed-forward matrices.
        depth: Number of side layers for each hidden state.
        activation: The non-linearity of their feed-forward.
        dropout: In them, while the adapter learns.
        init: ``"published"``, or ``"zero"``: with ``"concat"``, W starts so that nothing is added.
        init_std: Standard deviation that D and U start with.
        causal: Whether later positions are hidden from earlier ones; ``None`` for as in the model's own attention.

    Raises:
        ConfigError: If a value is refused.
    """

    method: ClassVar[str] = "k_adapter"
    sites: ClassVar[tuple[str, ...]] = ("layer",)

    layers: tuple[int, ...] | None = None
    combine: str = "concat"
    size: int = 768
    heads: int = 12
    inner: int = 3072
    depth: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    init: str = "published"
    init_std: float = 2e-4
    causal: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle_layers()
        one_of(self, "combine", ("concat", "add"))
        for field in ("size", "heads", "inner", "depth"):
            within(self, field, 1, whole=True)
            object.__setattr__(self, field, int(getattr(self, field)))
        if self.size % self.heads:
            raise ConfigError(f"KAdapter: heads is {self.heads}, which does not divide size {self.size}; give others")
        one_of(self, "activation", ACTIVATIONS)
        object.__setattr__(self, "activation", canonical(self.activation))
        within(self, "dropout", 0.0, 0.999)
        within(self, "init_std", 0.0, 10.0)
        one_of(self, "init", ("published", "zero"))
        if self.init == "zero" and self.combine == "add":
            raise ConfigError(
                "KAdapter: init is 'zero', but with combine='add' the hidden states that it reads are added from the start; give "
                "combine='concat', or init='published'"
            )
        one_of(self, "causal", (None, True, False))

    def _settle_layers(self) -> None:
        if self.layers is None:
            return
        given = self.layers
        numbers = isinstance(given, (tuple, list, range)) and all(type(n) is int and n >= 0 for n in given)
        if not numbers or not given or list(given) != sorted(set(given)):
            raise ConfigError(
                f"KAdapter: layers is {given!r}; give the numbers of hidden states in rising order, such as (0, 11, 22)"
            )
        object.__setattr__(self, "layers", tuple(given))

    def check(self, layers: Mapping[str, Sequence[int]]) -> None:
        for stack, numbers in layers.items():
            count = len(numbers)
            if list(numbers) != list(range(count)):
                raise ConfigError(
                    f"KAdapter reads the hidden states in front of every layer, but of {stack!r} only the layers "
                    f"{', '.join(map(str, numbers))} have sites; give the sites of all by hand (attach(sites=...))"
                )
            if self.layers is not None and self.layers[-1] > count:
                raise ConfigError(
                    f"KAdapter: layers names the hidden states {self.layers[-1]}, and {stack!r} has 0 to {count}; choose others"
                )

    def layers_of(self, count: int) -> tuple[int, ...]:
        """The hidden states that are read of a stack of ``count`` layers."""
        return self.layers if self.layers is not None else tuple(sorted({0, (count - 1) // 2, count - 1}))

    def build(self, place: Place, shared: nn.Module | None = None) -> KAdapterModule | None:
        if place.site.kind != "layer" or place.site.layer != place.layers - 1:
            return None
        return KAdapterModule(
            width=place.site.width,
            layers=self.layers_of(place.layers),
            last=place.layers,
            combine=self.combine,
            size=self.size,
            heads=self.heads,
            inner=self.inner,
            depth=self.depth,
            activation=self.activation,
            dropout=self.dropout,
            zero=self.init == "zero",
            init_std=self.init_std,
            causal=place.causal,
            hides_later=place.causal if self.causal is None else self.causal,
            dtype=self.torch_dtype,
        )
