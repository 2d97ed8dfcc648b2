"""Whole models run by hand from their submodules, with a place to add at every residual sum.

The other side of the equations in the tests: nothing of the library runs here. The models are untouched copies, so what
is called below has no hooks on it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Norm = Callable[[Tensor], Tensor]


@dataclasses.dataclass
class Here:
    """The tensors at one site, each ``(rows, positions, width)``.

    Attributes:
        key: The site's name, ``"encoder.layer.0.attention"``.
        kind: What stands there.
        output: The branch's output; the stream itself where ``on_stream``.
        residual: The stream before the addition.
        input: What the branch reads.
        layer_input: The stream as it enters the layer.
        norms: The post-norm of each row, or ``None`` in a pre-norm model.
        mask: Which positions are no padding.
        causal: Whether this is a decoder.
        on_stream: Whether the stream itself is in hand: behind a post-norm, or at a layer's output.
        scale: The model's own factor on the branch.
        base: The linear module of a projection.
    """

    key: str
    kind: str
    output: Tensor
    residual: Tensor
    input: Tensor
    layer_input: Tensor
    norms: list[Norm] | None
    mask: Tensor | None
    causal: bool
    on_stream: bool = False
    scale: float = 1.0
    base: Any = None

    def read(self, role: str) -> Tensor:
        """A read by its name."""
        if role in ("residual", "input", "layer_input", "output"):
            return getattr(self, role)
        if self.on_stream:
            return self.output
        stream = self.residual + self.scale * self.output
        if role == "stream" or self.norms is None:
            return stream
        return torch.cat([norm(stream[row : row + 1]) for row, norm in enumerate(self.norms)])

    def rows(self, rows: Sequence[int]) -> Here:
        """Some of the rows."""
        part = {name: getattr(self, name)[list(rows)] for name in _TENSORS}
        mask = None if self.mask is None else self.mask[list(rows)]
        norms = None if self.norms is None else [self.norms[row] for row in rows]
        return dataclasses.replace(self, **part, mask=mask, norms=norms)

    def positions(self, start: int, stop: int) -> Here:
        """Some of the positions."""
        part = {name: getattr(self, name)[:, start:stop] for name in _TENSORS}
        return dataclasses.replace(self, **part, mask=None if self.mask is None else self.mask[:, start:stop])

    def after(self, delta: Tensor) -> Here:
        """The site when something has been added."""
        return dataclasses.replace(self, output=self.output + delta)


_TENSORS = ("output", "residual", "input", "layer_input")


class Additions:
    """What is added where. This one adds nothing."""

    def rows(self, rows: int) -> int:
        """How many rows the model runs on for a batch of ``rows``."""
        return rows

    def branch(self, here: Here) -> Tensor | float:
        """What is added to a branch's output."""
        return 0.0

    def stream(self, here: Here) -> Tensor | float:
        """What is added to the stream behind the sum."""
        return 0.0

    def norms(self, path: str, norm: nn.Module, rows: int) -> list[Norm]:
        """The norm of each row, in the place of the model's."""
        return [norm] * rows


class _Run:
    """One pass: the inputs, and the three things that every model below does."""

    def __init__(self, additions: Additions, ids: Tensor, mask: Tensor | None, causal: bool) -> None:
        rows = additions.rows(len(ids))
        times = rows // len(ids)
        self.additions, self.causal, self.count = additions, causal, rows
        self.ids = ids.repeat(times, 1)
        self.mask = None if mask is None else mask.bool().repeat(times, 1)
        length = ids.shape[1]
        seen = torch.ones(rows, length, length, dtype=torch.bool)
        if self.mask is not None:
            seen = seen & self.mask[:, None, :]
        if causal:
            seen = seen & torch.ones(length, length, dtype=torch.bool).tril()
        self.seen = seen[:, None]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        """softmax(q kᵀ / √d) v, head by head."""
        parts = []
        size = query.shape[-1] // heads
        for n in range(heads):
            q, k, v = (t[..., n * size : (n + 1) * size] for t in (query, key, value))
            scores = (q @ k.transpose(1, 2) / math.sqrt(size)).masked_fill(~self.seen[:, 0], -math.inf)
            parts.append(torch.softmax(scores, -1) @ v)
        return torch.cat(parts, -1)

    def norm(self, path: str, norm: nn.Module, x: Tensor) -> Tensor:
        """A norm, each row with its own."""
        norms = self.additions.norms(path, norm, self.count)
        return torch.cat([one(x[row : row + 1]) for row, one in enumerate(norms)])

    def map(self, path: str, module: nn.Module, x: Tensor) -> Tensor:
        """A linear map, with what is added to its output."""
        y = module(x)
        return y + self.additions.branch(
            Here(path, "projection", y, y, x, x, None, self.mask, self.causal, base=module)
        )

    def here(
        self, key: str, y: Tensor, s: Tensor, x: Tensor, enter: Tensor, post: tuple[str, nn.Module] | None
    ) -> Here:
        """A site."""
        norms = None if post is None else self.additions.norms(*post, self.count)
        return Here(key, key.rpartition(".")[2], y, s, x, enter, norms, self.mask, self.causal)

    def add(
        self, key: str, y: Tensor, s: Tensor, x: Tensor, enter: Tensor, post: tuple[str, nn.Module] | None = None
    ) -> Tensor:
        """The stream behind a residual sum: s + y and what is added, then the norm, then what is added behind it."""
        here = self.here(key, y, s, x, enter, post)
        y = y + self.additions.branch(here)
        if post is None:
            return s + y + self.additions.stream(dataclasses.replace(here, output=y))
        s = self.norm(*post, s + y)
        return s + self.additions.stream(dataclasses.replace(here, output=s, on_stream=True))

    def leave(self, key: str, s: Tensor, enter: Tensor) -> Tensor:
        """The stream behind a layer."""
        here = dataclasses.replace(self.here(key, s, enter, enter, enter, None), on_stream=True)
        s = s + self.additions.branch(here)
        return s + self.additions.stream(dataclasses.replace(here, output=s))


def bert(model: nn.Module, inputs: Mapping[str, Any], additions: Additions) -> Tensor:
    """BERT (post-norm): the last hidden state."""
    run = _Run(additions, inputs["input_ids"], inputs.get("attention_mask"), causal=False)
    parts: Any = model.embeddings
    x = parts.word_embeddings(run.ids) + parts.token_type_embeddings.weight[0]
    x = x + parts.position_embeddings.weight[: run.ids.shape[1]]
    x = run.norm("embeddings.LayerNorm", parts.LayerNorm, x)
    for n, layer in enumerate(model.encoder.layer):
        at = f"encoder.layer.{n}"
        enter = x
        own = layer.attention.self
        maps = [run.map(f"{at}.attention.self.{name}", getattr(own, name), x) for name in ("query", "key", "value")]
        y = run.attend(*maps, model.config.num_attention_heads)
        y = run.map(f"{at}.attention.output.dense", layer.attention.output.dense, y)
        norm = layer.attention.output.LayerNorm
        x = run.add(f"{at}.attention", y, x, x, enter, (f"{at}.attention.output.LayerNorm", norm))
        y = nn.functional.gelu(run.map(f"{at}.intermediate.dense", layer.intermediate.dense, x))
        y = run.map(f"{at}.output.dense", layer.output.dense, y)
        x = run.add(f"{at}.feed_forward", y, x, x, enter, (f"{at}.output.LayerNorm", layer.output.LayerNorm))
        x = run.leave(f"{at}.layer", x, enter)
    return x


def gpt2(model: nn.Module, inputs: Mapping[str, Any], additions: Additions) -> Tensor:
    """GPT-2 (pre-norm, causal): the last hidden state."""
    run = _Run(additions, inputs["input_ids"], inputs.get("attention_mask"), causal=True)
    x = model.wte(run.ids) + model.wpe.weight[: run.ids.shape[1]]
    for n, layer in enumerate(model.h):
        enter = x
        inner = run.norm(f"h.{n}.ln_1", layer.ln_1, x)
        maps = run.map(f"h.{n}.attn.c_attn", layer.attn.c_attn, inner).chunk(3, dim=-1)
        y = run.map(f"h.{n}.attn.c_proj", layer.attn.c_proj, run.attend(*maps, model.config.n_head))
        x = run.add(f"h.{n}.attention", y, x, inner, enter)
        inner = run.norm(f"h.{n}.ln_2", layer.ln_2, x)
        y = nn.functional.gelu(run.map(f"h.{n}.mlp.c_fc", layer.mlp.c_fc, inner), approximate="tanh")
        y = run.map(f"h.{n}.mlp.c_proj", layer.mlp.c_proj, y)
        x = run.add(f"h.{n}.feed_forward", y, x, inner, enter)
        x = run.leave(f"h.{n}.layer", x, enter)
    return run.norm("ln_f", model.ln_f, x)


def gpt_neox(model: nn.Module, inputs: Mapping[str, Any], additions: Additions) -> Tensor:
    """GPT-NeoX with attention and feed-forward in parallel, causal: the last hidden state."""
    assert model.config.use_parallel_residual
    run = _Run(additions, inputs["input_ids"], inputs.get("attention_mask"), causal=True)
    x = model.embed_in(run.ids)
    rotary = model.rotary_emb(x, position_ids=torch.arange(run.ids.shape[1])[None])
    bias = torch.zeros(run.seen.shape, dtype=x.dtype).masked_fill(~run.seen, -math.inf)
    for n, layer in enumerate(model.layers):
        enter = x
        inner = run.norm(f"layers.{n}.input_layernorm", layer.input_layernorm, x)
        y, _ = layer.attention(inner, attention_mask=bias, position_embeddings=rotary)
        attention = run.add(f"layers.{n}.attention", y, x, inner, enter) - x
        inner = run.norm(f"layers.{n}.post_attention_layernorm", layer.post_attention_layernorm, x)
        y = nn.functional.gelu(run.map(f"layers.{n}.mlp.dense_h_to_4h", layer.mlp.dense_h_to_4h, inner))
        y = run.map(f"layers.{n}.mlp.dense_4h_to_h", layer.mlp.dense_4h_to_h, y)
        x = run.add(f"layers.{n}.feed_forward", y, x, inner, enter) + attention
        x = run.leave(f"layers.{n}.layer", x, enter)
    return run.norm("final_layer_norm", model.final_layer_norm, x)


MODELS: dict[str, Callable[[nn.Module, Mapping[str, Any], Additions], Tensor]] = {
    "bert": bert,
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
}
