"""LoraHub (Huang et al. 2023, arXiv:2307.13269): the weights of a sum of LoRAs, found on a few rows without gradients.

    A = Σ_n w_n A_n        B = Σ_n w_n B_n        minimise  loss(w) + penalty · mean_n |w_n|        |w_n| ≤ bound

The search is scipy's COBYLA (Powell 1994), which starts at the mean of the LoRAs and keeps the best weights that it met. The
paper's is a strategy of nevergrad that starts at zero.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graftwork.attach.handle import Handle
from graftwork.errors import ConfigError
from graftwork.methods import LoRA
from graftwork.options import is_number


@dataclasses.dataclass(frozen=True)
class LoraHub:
    """What `Adapters.lorahub` found, printable.

    Attributes:
        name: The new adapter.
        weights: The weight of each LoRA.
        loss: The loss with these weights, without the penalty.
        evaluations: How often the loss was computed.
    """

    name: str
    weights: Mapping[str, float]
    loss: float
    evaluations: int

    def __str__(self) -> str:
        parts = " + ".join(f"{weight:.3g} · {name}" for name, weight in self.weights.items())
        return f"{self.name} = {parts}; loss {self.loss:.4g} after {self.evaluations} evaluations"


def lorahub(
    handle: Handle,
    name: str,
    of: Sequence[str],
    loss: Callable[[], Any],
    *,
    steps: int,
    bound: float,
    penalty: float,
    head_from: str | None,
) -> LoraHub:
    """Find the weights, and add the adapter; see `graftwork.Adapters.lorahub`."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ConfigError(f"lorahub needs scipy: pip install scipy ({error})") from error
    _refuse_wrong(handle, name, of, steps, bound, penalty)
    handle.merge(name, of, head_from=head_from)
    sources = [_matrices(handle, one) for one in of]
    target = _matrices(handle, name)
    stacks = {key: torch.stack([source[key].double() for source in sources]) for key in target}
    best: tuple[float, float, list[float]] = (math.inf, math.inf, [])
    count = 0

    def fill(weights: Sequence[float]) -> None:
        for key, tensor in target.items():
            factors = torch.tensor(weights, dtype=torch.float64, device=tensor.device)
            tensor.copy_(torch.tensordot(factors, stacks[key], dims=1))

    def objective(point: Any) -> float:
        nonlocal best, count
        weights = [min(max(float(w), -bound), bound) for w in point]
        fill(weights)
        value = float(loss())
        count += 1
        whole = value + penalty * sum(map(abs, weights)) / len(weights)
        if whole < best[0]:
            best = whole, value, weights
        return whole if math.isfinite(whole) else 1e30  # the search compares numbers

    training = handle.model.training
    handle.model.eval()
    start, limits = [1 / len(of)] * len(of), [(-bound, bound)] * len(of)
    try:
        with torch.no_grad(), handle.using(name):
            minimize(objective, start, method="COBYLA", bounds=limits, options={"maxiter": steps, "rhobeg": 0.5})
            if not best[2]:
                raise ConfigError(f"lorahub({name!r}): the loss was never a finite number; return that of a few rows")
            fill(best[2])
    except BaseException:
        handle.remove(name)
        raise
    finally:
        handle.model.train(training)
    return LoraHub(name, dict(zip(of, best[2], strict=True)), best[1], count)


def _matrices(handle: Handle, name: str) -> dict[str, Tensor]:
    """A and B at each projection, by name."""
    return {
        f"{key} {n}": p.detach()
        for key, module in handle.modules_of(name).items()
        for n, p in module.named_parameters()
    }


def _refuse_wrong(handle: Handle, name: str, of: Sequence[str], steps: int, bound: float, penalty: float) -> None:
    """Refuse adapters that are no plain LoRAs, and numbers that are none."""
    for one in of:
        if type(handle.adapter_config(one)) is not LoRA:
            raise ConfigError(f"lorahub({name!r}): {one!r} is no LoRA; give the names of LoRAs of one configuration")
    if type(steps) is not int or steps < 1:
        raise ConfigError(f"lorahub({name!r}): steps is {steps!r}; give a whole number of 1 or more")
    for option, value, low in (("bound", bound, 1e-6), ("penalty", penalty, 0.0)):
        if not is_number(value) or value < low:
            raise ConfigError(f"lorahub({name!r}): {option} is {value!r}; give a finite number of {low:g} or more")
