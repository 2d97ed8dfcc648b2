"""The module of K-Adapter: side adapters in a chain, and how the last one's output joins the stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftwork.methods.layers.activations import activation
from graftwork.methods.layers.affine import Affine, normed
from graftwork.methods.layers.attention import SelfAttention, by_position, visible_positions
from graftwork.methods.layers.contract import AdapterModule, Context, cast

_LAYER_STD = 0.02


class SideLayer(nn.Module):
    """A post-norm transformer layer as BERT has them."""

    def __init__(self, size: int, heads: int, inner: int, phi: str, dropout: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.phi, self.dropout = phi, dropout
        self.attention = SelfAttention(size, heads, _LAYER_STD, dtype)
        self.out = Affine(size, size, _LAYER_STD, dtype)
        self.attention_norm = nn.LayerNorm(size, dtype=dtype)
        self.up = Affine(size, inner, _LAYER_STD, dtype)
        self.down = Affine(inner, size, _LAYER_STD, dtype)
        self.norm = nn.LayerNorm(size, dtype=dtype)

    def forward(self, x: Tensor, visible: Tensor | None, random: bool) -> Tensor:
        """``(batch, positions, size)`` to the same; ``random`` says whether dropout is at work."""
        rate = self.dropout if random else 0.0
        attended = self.out(self.attention(x, visible, rate))
        x = normed(self.attention_norm, x + nn.functional.dropout(attended, rate, training=random))
        made = self.down(activation(self.phi)(self.up(x)))
        return normed(self.norm, x + nn.functional.dropout(made, rate, training=random))


class SideAdapter(nn.Module):
    """``U layers(D x + b) + b' + x``."""

    def __init__(self, width: int, size: int, layers: list[SideLayer], std: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.down = Affine(width, size, std, dtype)
        self.layers = nn.ModuleList(layers)
        self.up = Affine(size, width, std, dtype)

    def forward(self, x: Tensor, visible: Tensor | None, random: bool) -> Tensor:
        """``(batch, positions, width)`` to the same."""
        inside = self.down(x)
        for layer in self.layers:
            inside = layer(inside, visible, random)
        return x + self.up(inside)  # type: ignore[no-any-return]


class KAdapterModule(AdapterModule):
    """The side network at the end of one stack; see `graftwork.methods.k_adapter.KAdapter` for the options.

    Attributes:
        also_reads: The hidden states that it reads, beside the last.
        adapters: One for each hidden state, in a chain.
        kept: With ``concat``, what is taken from the last hidden states, stored as W − I ``(width, width)``.
        joined: With ``concat``, the half of W for the side network's output ``(width, width)``.
        bias: With ``concat``, b ``(width,)``.
    """

    mixes_positions = True

    def __init__(
        self,
        *,
        width: int,
        layers: tuple[int, ...],
        last: int,
        combine: str,
        size: int,
        heads: int,
        inner: int,
        depth: int,
        activation: str,
        dropout: float,
        zero: bool,
        init_std: float,
        causal: bool,
        hides_later: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(reads="output", writes="stream")
        self.causal, self.hides_later, self.has_randomness = causal, hides_later, dropout > 0
        self.also_reads = tuple(f"hidden:{n}" for n in layers if n != last)
        self.takes_last = last in layers
        self.adapters = nn.ModuleList()
        for _ in layers:
            inside = [SideLayer(size, heads, inner, activation, dropout, dtype) for _ in range(depth)]
            self.adapters.append(SideAdapter(width, size, inside, init_std, dtype))
        concat = combine == "concat"
        self.kept = nn.Parameter(torch.zeros(width, width, dtype=dtype)) if concat else None
        self.joined = nn.Parameter(torch.randn(width, width, dtype=dtype) * _LAYER_STD) if concat else None
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype)) if concat else None
        if zero and self.joined is not None:
            with torch.no_grad():
                self.joined.zero_()

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
