"""The methods' formulas, written out on tensors that were seen in a forward pass."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.sites import Site
from tests.architectures.attached import run, scale_of, sum_tap, watching
from tests.zoo.models import ZooModel

linear = nn.functional.linear


@dataclasses.dataclass
class Streams:
    """At one site: the stream ``s`` before the addition, the branch ``y`` as the model made it, and their sum."""

    residual: Tensor
    output: Tensor
    sum: Tensor


def streams(zoo: ZooModel, adapters: gw.Adapters, sites: list[Site]) -> dict[str, Streams]:
    """What one forward pass with the active adapters shows at every site."""
    taps = {}
    for site in sites:
        assert site.residual is not None, f"{site.key} has no residual"
        taps[f"{site.key} s"] = site.residual
        taps[f"{site.key} y"] = site.output
        taps[f"{site.key} sum"] = sum_tap(adapters, site, zoo.expected.norm)
    with watching(zoo.model, taps) as seen:
        run(zoo)
    found = {}
    for site in sites:
        s, y, total = (seen[f"{site.key} {what}"] for what in ("s", "y", "sum"))
        total = total.reshape(s.shape)  # OPT's feed-forward flattens rows and positions
        if y.shape != s.shape:  # Swin adds attention in another layout than its module returns
            y = _from_sums(zoo, adapters, site, taps)
        found[site.key] = Streams(s, y, total)
    return found


def _from_sums(zoo: ZooModel, adapters: gw.Adapters, site: Site, taps: dict[str, gw.Tap]) -> Tensor:
    """The branch as the difference of the sum and the stream in a pass without an adapter at this site."""
    module = adapters.modules_of("a").get(adapters.sites.key_of(site))
    saved = [] if module is None else [parameter.detach().clone() for parameter in module.parameters()]
    parameters = [] if module is None else list(module.parameters())
    with torch.no_grad(), watching(zoo.model, {what: taps[f"{site.key} {what}"] for what in ("s", "sum")}) as seen:
        for parameter in parameters:
            parameter.zero_()
        run(zoo)
        for parameter, value in zip(parameters, saved, strict=True):
            parameter.copy_(value)
    return (seen["sum"].reshape(seen["s"].shape) - seen["s"]) / scale_of(zoo.model, site)


def addition(model: nn.Module, method: str, adapters: gw.Adapters, site: Site, seen: Streams) -> Tensor | float:
    """``A(read)`` of the adapter called "a" at a site; 0 where it has none."""
    module = adapters.modules_of("a").get(adapters.sites.key_of(site))
    if module is None:
        return 0.0
    s, y = seen.residual, seen.output
    if method == "houlsby":
        read = y
    elif method == "parallel":
        read = s
    else:
        read = s + scale_of(model, site) * y
        if site.norm is not None:
            norm = model.get_submodule(site.norm)
            read = nn.functional.layer_norm(read, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    weights = {name: parameter.detach().to(read.dtype) for name, parameter in module.named_parameters()}
    features = torch.relu(linear(read, weights["down"], weights["down_bias"]))
    return (4.0 if method == "parallel" else 1.0) * linear(features, weights["up"], weights["up_bias"])
