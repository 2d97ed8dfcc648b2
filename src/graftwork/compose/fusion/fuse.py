"""AdapterFusion (Pfeiffer et al. 2020, *AdapterFusion*, arXiv:2005.00247): configuration, weights, and how they learn.

    score_n = (Q h + b_q) · (K z_n + b_k)      a = softmax(score / T)      δ = V Σ_n a_n z_n

for each token, with the query h a Pfeiffer adapter's read (or the branch's output) and z_n the n-th child's addition.
At a projection, the place of LoRA, h is the module's output, Q and K are ``(rank, d)`` of a small rank, and there is no V:
in full they would have more weights than the base.
How it is computed is in `graftwork.compose.fusion.fuse_forms`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from graftwork.compose.blocks import Learned
from graftwork.compose.fusion.learned import LearnedConfig, LearnedModule
from graftwork.methods import Place
from graftwork.options import flags, one_of, within


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionConfig(LearnedConfig):
    """How a fusion is made.

    Attributes:
        query: ``"normed"``, the tensor that a Pfeiffer adapter reads at the site, or ``"output"``, the branch's output.
        value: Whether there is a value matrix V (without it the fusion is the published ``static`` one).
        dropout: On the scores before the softmax, while the fusion learns: 0, as in the paper's formula. The authors' code and
            AdapterHub take the rate of the model's attention, 0.1 for BERT.
        temperature: ``None``, or the start of a temperature T that falls to 1 over `temperature_steps` optimiser steps.
        temperature_steps: Number of those steps.
        residual_before: The branch's output is added to every child before K and V (files of the other library need
            it); the fusion then adds V Σ a (z + y) − y.
        regularization: Weight of the pull of V to the identity, ``· ‖V − I‖²``, added to the loss.
        projection_rank: Rows of Q and K at projections.
        projection_value: Whether there is a V at projections.
        init_std: Standard deviation of Q and K at the start.
        value_std: Standard deviation of V − I at the start.
        dtype: Name of the dtype of the weights.

    Raises:
        ConfigError: If a value is refused.

    Example:
        >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"), gw.FusionConfig(value=False))
    """

    query: str = "normed"
    value: bool = True
    dropout: float = 0.0
    temperature: float | None = None
    temperature_steps: int = 1000
    residual_before: bool = False
    regularization: float = 0.01
    projection_rank: int = 16
    projection_value: bool = False
    init_std: float = 0.02
    value_std: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "query", ("normed", "output"))
        flags(self, "value", "residual_before", "projection_value")
        within(self, "projection_rank", 1, whole=True)
        within(self, "dropout", 0.0, 0.999)
        if self.temperature is not None:
            within(self, "temperature", 1.0)
        within(self, "temperature_steps", 1, whole=True)
        for field in ("regularization", "init_std", "value_std"):
            within(self, field, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON values; what earlier versions did not have is left out where it is the default."""
        aside = {"projection_rank": FusionConfig.projection_rank, "projection_value": FusionConfig.projection_value}
        return {key: value for key, value in super().to_dict().items() if value != aside.get(key, ...)}

    def build(self, block: Learned, place: Place, shared: nn.Module | None = None) -> FusionModule:
        return FusionModule(place.site.width, self, at_projection=place.site.kind == "projection")


class FusionModule(LearnedModule):
    """The weights of one fusion at one site of width d: Q, K ``(rank, d)`` with biases, and V stored as I + `value_delta`.

    The rank is d but at projections.

    Stored so, weight decay and the pull to the identity agree, and a bfloat16 cast does not round V − I away.
    """

    reads: str

    def __init__(self, width: int, config: FusionConfig, *, at_projection: bool = False) -> None:
        super().__init__(reads="output" if at_projection else config.query)
        rank = config.projection_rank if at_projection else width
        value = config.projection_value if at_projection else config.value
        self.config = config
        self.width = width
        dtype = config.torch_dtype

        def normal(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, dtype=dtype) * std)

        self.query_weight = normal(rank, width, std=config.init_std)
        self.query_bias = nn.Parameter(torch.zeros(rank, dtype=dtype))
        self.key_weight = normal(rank, width, std=config.init_std)
        self.key_bias = nn.Parameter(torch.zeros(rank, dtype=dtype))
        self.value_delta = normal(width, width, std=config.value_std) if value else None
        if config.temperature is not None:
            self.register_buffer("temperature", torch.tensor(float(config.temperature)))
            self.register_buffer("temperature_step", torch.tensor(0, dtype=torch.long))
        else:
            self.temperature = None

    @property
    def drops_scores(self) -> bool:
        """Whether dropout on the scores is at work now."""
        return self.config.dropout > 0 and self.training and self.trainable

    def value(self) -> Tensor | None:
        """V ``(d, d)``, or ``None`` where there is none."""
        if self.value_delta is None:
            return None
        return self.value_delta + torch.eye(self.width, dtype=self.value_delta.dtype, device=self.value_delta.device)

    def weigh(self, scores: Tensor) -> Tensor:
        """Attention weights ``(…, N)`` from scores ``(…, N)``, in float32 or wider."""
        if self.drops_scores:
            scores = nn.functional.dropout(scores, self.config.dropout)
        if self.temperature is not None:
            scores = scores / self.temperature.to(scores.dtype)
        return scores.softmax(dim=-1)

    def regularization_loss(self) -> Tensor | None:
        """The loss term that holds V at the identity, a scalar."""
        if self.value_delta is None or not self.config.regularization:
            return None
        wide = self.value_delta.to(torch.promote_types(self.value_delta.dtype, torch.float32))
        return self.config.regularization * wide.square().sum()

    @torch.no_grad()
    def on_optimizer_step(self) -> None:
        """One optimiser step further on the way of the temperature to 1."""
        if self.temperature is not None and self.config.temperature is not None:
            self.temperature_step += 1
            fall = (self.config.temperature - 1.0) / self.config.temperature_steps
            self.temperature.copy_((self.config.temperature - fall * self.temperature_step).clamp(min=1.0))
