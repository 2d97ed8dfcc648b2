"""Which modules are norms that one of an adapter's can stand in for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftwork.sites import norm_paths
from graftwork.sites.discovery import ops


class GatedRMSNorm(nn.Module):
    """As in Mamba 2: normalises one activation, and multiplies by another one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
        return x if gate is None else x * nn.functional.silu(gate)


class QKNorm(nn.Module):
    def forward(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return nn.functional.normalize(query, dim=-1), nn.functional.normalize(key, dim=-1)


class T5LayerNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.weight * hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True))


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), T5LayerNorm()])
def test_norms_of_activations(norm: nn.Module):
    assert norm_paths(nn.Sequential(nn.Linear(4, 4), norm)) == ("1",)


@pytest.mark.parametrize("norm", [GatedRMSNorm(), QKNorm()])
def test_a_norm_of_two_activations_is_not_one_to_replace(norm: nn.Module):
    assert norm_paths(nn.Sequential(norm, nn.LayerNorm(4))) == ("1",)


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_norms_of_weights_are_none(wrap):
    model = nn.Sequential(wrap(nn.Linear(4, 4)), nn.LayerNorm(4))
    assert [path for path, _ in ops.norms_of(model)] == ["1"]
