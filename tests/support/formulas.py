"""The adapters' and the fusion's published formulas, written out plainly: the other side of the equations in the tests.

Nothing is stacked, rearranged, folded or kept here. Weights are read off the library's modules by their names, options
off the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose import FusionModule
from graftwork.methods import IA3, PAL, AdapterConfig, Bottleneck, DoRA, LoRA, MoE, VeRA

PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x * (x > 0),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "identity": lambda x: x,
}


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """(x − mean) / sqrt(variance + eps) · weight + bias."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps) * weight + bias


def adapter(config: AdapterConfig, module: Any, h: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """What an adapter adds, by the formula of its method."""
    if isinstance(config, PAL):
        return pal(config, module, h, mask, causal)
    if isinstance(config, MoE):
        return mixture(config, module, h)
    assert isinstance(config, Bottleneck)
    return bottleneck(config, module, h, mask, causal)


def projection(config: AdapterConfig, module: Any, x: Tensor, y: Tensor, base: Any) -> Tensor:
    """What an adapter adds to y = W x + c."""
    weight = base.weight.T if type(base).__name__ == "Conv1D" else base.weight
    if isinstance(config, IA3):
        at_input = module.reads == "input"
        return ((module.factors - 1) * x) @ weight.T if at_input else (module.factors - 1) * y
    if isinstance(config, VeRA):
        a, b = module.shared.a[:, : x.shape[-1]], module.shared.b[: y.shape[-1]]
        return module.lambda_b * ((module.lambda_d * (x @ a.T)) @ b.T)
    assert isinstance(config, LoRA)
    low_rank = config.alpha / config.rank * (x @ module.down.T) @ module.up.T
    if not isinstance(config, DoRA):
        return low_rank
    whole = weight + config.alpha / config.rank * module.up @ module.down
    ratio = module.magnitude / whole.detach().norm(dim=1)
    return (ratio - 1) * (y - base.bias) + ratio * low_rank


def attention(w: dict[str, Tensor], x: Tensor, heads: int, mask: Tensor | None, causal: bool) -> Tensor:
    """[softmax(q_i kᵀ / √(r / heads)) v for each position and head], padding hidden, later positions too if ``causal``."""
    q, k, v = (x @ w[f"{name}.weight"].T + w[f"{name}.bias"] for name in ("query", "key", "value"))
    size, out = x.shape[-1] // heads, torch.zeros_like(x)
    for row in range(len(x)):
        for position in range(x.shape[1]):
            seen = [n for n in range(x.shape[1]) if (n <= position or not causal) and (mask is None or mask[row, n])]
            seen = sorted({*seen, position})
            for first in range(0, x.shape[-1], size):
                part = slice(first, first + size)
                scores = k[row, seen, part] @ q[row, position, part] / math.sqrt(size)
                weights = torch.exp(scores - scores.max())
                out[row, position, part] = (weights / weights.sum()) @ v[row, seen, part]
    return out


def pal(config: PAL, module: Any, h: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """V_D attention(V_E h), φ around it."""
    own, both = dict(module.attention.named_parameters()), dict(module.shared[str(h.shape[-1])].named_parameters())
    inner = attention(own, h @ both["encode.weight"].T + both["encode.bias"], config.heads, mask, causal)
    return PHI[config.activation](inner @ both["decode.weight"].T + both["decode.bias"])


def bottleneck(
    config: Bottleneck, module: nn.Module, h: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """A(h) = scale · norm(U φ(D norm(h) + b_D) + b_U + S(norm(h))) · gate(h), each part where an option asks for it."""
    w = dict(module.named_parameters())
    x = layer_norm(h, w["norm_before.weight"], w["norm_before.bias"]) if config.norm_before else h
    down, up = (w[side].T if side in w else product(module, side) for side in ("down", "up"))
    z = PHI[config.activation](x @ down + w["down_bias"]) @ up
    if config.up_bias:
        z = z + w["up_bias"]
    if config.skip in ("scalar", "diagonal"):
        z = z + x * w["skip"]
    elif config.skip == "low_rank":
        z = z + x @ w["skip_down"].T @ w["skip"].T
    elif config.skip == "dense":
        z = z + x @ w["skip"].T
    if config.norm_after:
        z = layer_norm(z, w["norm_after.weight"], w["norm_after.bias"])
    z = z * (w["scale"] if isinstance(config.scale, str) else config.scale)
    if config.gate:
        gate = 1 / (1 + torch.exp(-(h @ w["gate"].T + w["gate_bias"])))
        if not causal:
            kept = torch.ones(h.shape[:2], dtype=h.dtype) if mask is None else mask.to(h.dtype)
            means = [(gate[row, :, 0] * kept[row]).sum() / kept[row].sum().clamp(min=1) for row in range(len(h))]
            gate = torch.stack(means)[:, None, None]
        z = z * gate
    return z


def mixture(config: MoE, module: Any, h: Tensor) -> Tensor:
    """Σ_i g_i E_i(h), g the softmax over the k largest of W_g h, as it is without noise."""
    w = dict(module.named_parameters())
    experts = []
    for n in range(config.experts):
        features = PHI[config.activation](h @ w["down"][n].T + w["down_bias"][n])
        experts.append(features @ w["up"][n].T + (w["up_bias"][n] if config.up_bias else 0))
    return route(h @ w["gate.weight"].T, config.top_k, experts)


def product(module: Any, side: str) -> Tensor:
    """Σ_i A_i ⊗ B_i ``(in, out)``, B_i = s_i t_i or whole; s t where there is no rule."""
    w = dict(getattr(module, side).named_parameters())
    blocks = [s @ t for s, t in zip(w["left"], w["right"], strict=True)] if "right" in w else list(w["left"])
    rule = w.get("rule", None if module.shared is None else module.shared.matrices)
    if rule is None:
        (only,) = blocks
        return only
    return torch.stack([torch.kron(a, b) for a, b in zip(rule, blocks, strict=True)]).sum(0)


def fusion(
    module: FusionModule,
    query: Tensor,
    children: Sequence[Tensor],
    residual: Tensor | None = None,
    score_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """δ and the weights of AdapterFusion as everyone computes it: Q, K and V applied to each child in full width.

    Args:
        module: The weights.
        query: The query h.
        children: Each child's addition z_n.
        residual: The branch's output, where it is added to every child before K and V.
        score_mask: What the scores are multiplied with before the softmax: dropout's 0 and 1 / (1 − p).
    """
    w = dict(module.named_parameters())
    q = query @ w["query_weight"].T + w["query_bias"]
    contents = [z if residual is None else z + residual for z in children]
    keys = [z @ w["key_weight"].T + w["key_bias"] for z in contents]
    scores = torch.stack([(q * k).sum(-1) for k in keys], dim=-1)
    if score_mask is not None:
        scores = scores * score_mask
    if module.temperature is not None:
        scores = scores / module.temperature.item()
    attention = torch.softmax(scores, dim=-1)
    values = contents
    if "value_delta" in w:
        matrix = torch.eye(query.shape[-1], dtype=query.dtype) + w["value_delta"]
        values = [z @ matrix.T for z in contents]
    out = torch.zeros_like(query)
    for n, value in enumerate(values):
        out = out + attention[..., n : n + 1] * value
    return out if residual is None else out - residual, attention


def scalearn(scales: Tensor, children: Sequence[Tensor]) -> Tensor:
    """δ = Σ_n ω_n ⊙ z_n."""
    return torch.stack([scale * z for scale, z in zip(scales, children, strict=True)]).sum(0)


def route(logits: Tensor, top_k: int, children: Sequence[Tensor]) -> Tensor:
    """δ = Σ_n g_n z_n, g the softmax over the k largest logits, one token after another."""
    delta = torch.zeros_like(children[0])
    for row in range(delta.shape[0]):
        for at in range(delta.shape[1]):
            here = logits[row, at].tolist()
            best = sorted(range(len(here)), key=lambda n: -here[n])[:top_k]
            total = sum(math.exp(here[n]) for n in best)
            delta[row, at] = sum(math.exp(here[n]) / total * children[n][row, at] for n in best)
    return delta
