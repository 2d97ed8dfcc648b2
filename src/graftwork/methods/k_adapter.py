"""K-Adapter (Wang et al. 2020, arXiv:2002.01808): a side network next to the model, which joins it at the end.

    x_i = H_{l_i} + o_{i−1}                              H_l: the model's hidden states, 0 the embeddings; o_{−1} = 0
    o_i = U_i layers_i(D_i x_i + b) + b' + x_i           layers_i: two post-norm transformer layers of width 768
    joined at the last hidden states H:    add:     H + o_K                  concat:     W [H; o_K] + b

The model's own layers do not change. Each kind of knowledge is trained as an adapter of its own, so that none is forgotten, and
several are added (``Average(..., weights=[1, 1], normalize=False)`` with ``combine="add"``).

After that the paper trains the base on a task, with the adapters fixed: in a recipe ``knowledge = ["facts"]`` and ``base =
"trained"`` in ``[tasks.NAME]``, with ``adapters = "trained"`` for both together. The task has a head of its own there, as in the
paper. Two things differ: the head itself (the paper's depends on the task), and that several adapters are stacked, where the
paper joins the outputs of all.

The hidden states are chosen by number. D and U start from N(0, 2e-4), the layers as BERT's, from N(0, 0.02). The half of W that
multiplies H starts as the identity, and the other from N(0, 0.02) (in the authors' code, as torch's linear layers do). Attention
masks the model's padding, which the authors' code does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from graftwork.errors import ConfigError
from graftwork.methods.layers.activations import activation, settle_activation
from graftwork.methods.layers.affine import Affine, normed
from graftwork.methods.layers.attention import SelfAttention, by_position, visible_positions
from graftwork.methods.layers.contract import HIDDEN, AdapterConfig, AdapterModule, Context, Place, cast
from graftwork.methods.registry import register
from graftwork.options import one_of, within

_LAYER_STD = 0.02


@register
@dataclasses.dataclass(frozen=True, kw_only=True)
class KAdapter(AdapterConfig):
    """A side network of transformer layers over chosen hidden states, one at the end of each stack of layers.

    RoBERTa-large, hidden states 0, 11 and 22: 3 · 15,750,400 weights with ``combine="add"``, 2,098,176 more with
    ``"concat"``. A decoder hides later positions here too; it cannot generate with a cache, which leaves the earlier ones out.

    Attributes:
        layers: Numbers of the hidden states that are read, 0 for the embeddings; by default those before the first, the
            middle and the last layer.
        combine: ``"concat"`` (``W [H; o_K] + b``) or ``"add"`` (``H + o_K``).
        size: Width of the side layers.
        heads: Number of their attention heads, which has to divide it.
        inner: Width between their two feed-forward matrices.
        depth: Number of side layers for each hidden state.
        activation: The non-linearity of their feed-forward.
        dropout: Dropout in the side layers, while the adapter is trained.
        init: ``"published"``, or ``"zero"``: with ``"concat"``, W starts so that nothing is added.
        init_std: Standard deviation of D and U at the start.
        causal: Whether later positions are hidden from earlier ones; ``None`` for as in the model's own attention.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add("facts", gw.KAdapter(layers=(0, 2), size=16, heads=2, inner=32))
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
        if self.layers is not None:
            self._settle_layers(self.layers)
        one_of(self, "combine", ("concat", "add"))
        self._settle_whole("size", "heads", "inner", "depth")
        if self.size % self.heads:
            raise ConfigError(f"KAdapter: heads is {self.heads}, which does not divide size {self.size}; give others")
        settle_activation(self)
        within(self, "dropout", 0.0, 0.999)
        within(self, "init_std", 0.0, 10.0)
        one_of(self, "init", ("published", "zero"))
        if self.init == "zero" and self.combine == "add":
            raise ConfigError(
                "KAdapter: init is 'zero', but with combine='add' the hidden states that it reads are added from the start; give "
                "combine='concat', or init='published'"
            )
        one_of(self, "causal", (None, True, False))

    def _settle_layers(self, given: Sequence[int]) -> None:
        """Check the numbers of the hidden states, and write them as a tuple."""
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
                    f"KAdapter reads the hidden states before every layer, but of {stack!r} only the layers "
                    f"{', '.join(map(str, numbers))} have sites; give the sites of all by hand (attach(sites=...))"
                )
            if self.layers is not None and self.layers[-1] > count:
                raise ConfigError(
                    f"KAdapter: layers names the hidden states {self.layers[-1]}, and {stack!r} has 0 to {count}; choose others"
                )

    def layers_of(self, count: int) -> tuple[int, ...]:
        """Return the numbers of the hidden states that are read in a stack of ``count`` layers."""
        return self.layers if self.layers is not None else tuple(sorted({0, (count - 1) // 2, count - 1}))

    def build(self, place: Place, shared: nn.Module | None = None) -> KAdapterModule | None:
        if place.site.kind != "layer" or place.site.layer != place.layers - 1:
            return None
        return KAdapterModule(self, place)


class KAdapterModule(AdapterModule):
    """The side network at the end of one stack.

    Attributes:
        also_reads: The hidden states that it reads, except the last.
        adapters: One for each hidden state, in a chain.
        kept: With ``concat``, the half of W for the last hidden states, stored as W − I ``(width, width)``.
        joined: With ``concat``, the half of W for the side network's output ``(width, width)``.
        bias: With ``concat``, b ``(width,)``.
    """

    mixes_positions = True

    def __init__(self, config: KAdapter, place: Place) -> None:
        super().__init__(reads="output", writes="stream")
        width, dtype, layers = place.site.width, config.torch_dtype, config.layers_of(place.layers)
        self.causal, self.has_randomness = place.causal, config.dropout > 0
        self.hides_later = place.causal if config.causal is None else config.causal
        self.also_reads = tuple(f"{HIDDEN}{n}" for n in layers if n != place.layers)
        self.takes_last = place.layers in layers
        self.adapters = nn.ModuleList(SideAdapter(width, config) for _ in layers)
        concat = config.combine == "concat"
        self.kept = nn.Parameter(torch.zeros(width, width, dtype=dtype)) if concat else None
        self.joined = nn.Parameter(torch.randn(width, width, dtype=dtype) * _LAYER_STD) if concat else None
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype)) if concat else None
        if config.init == "zero" and self.joined is not None:
            nn.init.zeros_(self.joined)

    def forward(self, read: Tensor, context: Context, *also: Tensor) -> Tensor:
        states = [by_position(t, "KAdapter") for t in (*also, *((read,) if self.takes_last else ()))]
        visible = visible_positions(states[0], context, self.hides_later)
        out = torch.zeros_like(states[0])
        for adapter, state in zip(self.adapters, states, strict=True):
            out = adapter(state.to(out.device) + out, visible, self.random)
        delta = out.reshape(read.shape)
        if self.kept is None:
            return delta
        linear = nn.functional.linear
        return linear(read, cast(self.kept, read)) + linear(delta, cast(self.joined, read), cast(self.bias, read))


class SideAdapter(nn.Module):
    """``U layers(D x + b) + b' + x``."""

    def __init__(self, width: int, config: KAdapter) -> None:
        super().__init__()
        layers = [SideLayer(config) for _ in range(config.depth)]
        self.down = Affine(width, config.size, config.init_std, config.torch_dtype)
        self.layers = nn.ModuleList(layers)
        self.up = Affine(config.size, width, config.init_std, config.torch_dtype)

    def forward(self, x: Tensor, visible: Tensor | None, random: bool) -> Tensor:
        """``(batch, positions, width)`` to the same."""
        inside = self.down(x)
        for layer in self.layers:
            inside = layer(inside, visible, random)
        return x + self.up(inside)


class SideLayer(nn.Module):
    """A post-norm transformer layer as in BERT."""

    def __init__(self, config: KAdapter) -> None:
        super().__init__()
        size, inner, dtype = config.size, config.inner, config.torch_dtype
        self.phi, self.dropout = config.activation, config.dropout
        self.attention = SelfAttention(size, config.heads, _LAYER_STD, dtype)
        self.out = Affine(size, size, _LAYER_STD, dtype)
        self.attention_norm = nn.LayerNorm(size, dtype=dtype)
        self.up = Affine(size, inner, _LAYER_STD, dtype)
        self.down = Affine(inner, size, _LAYER_STD, dtype)
        self.norm = nn.LayerNorm(size, dtype=dtype)

    def forward(self, x: Tensor, visible: Tensor | None, random: bool) -> Tensor:
        """``(batch, positions, size)`` to the same; ``random`` turns dropout on."""
        attended = self.out(self.attention(x, visible, self.dropout if random else 0.0))
        x = normed(self.attention_norm, x + nn.functional.dropout(attended, self.dropout, random))
        out = self.down(activation(self.phi)(self.up(x)))
        return normed(self.norm, x + nn.functional.dropout(out, self.dropout, random))
