"""Adapters made at one size of input run at another, in every architecture: what was taken for the width is the width.

Some with every test run; all with ``make test-architectures``.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from graftwork.sites import SiteMap
from graftwork.sites.discovery.example_inputs import Run
from graftwork.sites.discovery.other_sizes import varied
from tests.architectures.attached import randomize, tensors, watching
from tests.architectures.known import KNOWN_FAILURES, NO_RESIDUALS
from tests.zoo.models import clone_inputs
from tests.zoo.registry import Unavailable
from tests.zoo.shrink import model_types, shrink_model

SOME = tuple(
    "bert convnext convnextv2 fsmt levit llama mobilevit poolformer squeezebert swiftformer swin t5 xlnet".split()
)
EVERYWHERE = gw.Houlsby(bottleneck_size=3, init_std=0.2)


def other_size(model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """More rows, and another length or larger images, where the model itself runs on them."""
    for run in varied(Run(kwargs=inputs)):
        try:
            with torch.no_grad():
                model(**clone_inputs(dict(run.kwargs)))
        except Exception:  # a model that takes one size alone says so in many ways
            continue
        return dict(run.kwargs)
    return None


def check_sites(model: nn.Module, sites: SiteMap, runs: list[dict[str, Any]]) -> None:
    """The width is there at every size, where the site says; and as many rows as the batch has, or several behind each."""
    watched = {sites.key_of(site): site for site in sites}
    for inputs in runs:
        with torch.no_grad(), watching(model, {key: site.output for key, site in watched.items()}) as seen:
            model(**clone_inputs(inputs))
        main = inputs.get("input_ids", next(iter(inputs.values())))
        for key, tensor in seen.items():
            site = watched[key]
            assert tensor.shape[site.extra.get("channels", -1)] == site.width, (key, tensor.shape)
            assert site.rows is None or tensor.shape[site.rows] % len(main) == 0, (key, tensor.shape)


def check(model_type: str, record_property: Any) -> None:
    try:
        model, inputs = shrink_model(model_type)
    except Unavailable as reason:
        pytest.skip(f"not built: {reason}")
    other = other_size(model, inputs)
    runs = [inputs] if other is None else [inputs, other]
    record_property("sizes", len(runs))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            adapters = gw.attach(model, example_inputs=inputs)
    except gw.SiteError as error:
        assert "unclear which dimension" not in str(error), error
        if model_type in KNOWN_FAILURES or model_type in NO_RESIDUALS:
            pytest.skip("its sites are not found")
        raise
    check_sites(model, adapters.sites, runs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            adapters.add("a", EVERYWHERE)
    except gw.SiteError as error:
        record_property("bottleneck", "refused")
        assert "channels are dimension" in str(error) or "has sites of the kinds" in str(error), error
        return
    randomize(adapters, "a", seed=0)
    for key, module in adapters.modules_of("a").items():
        assert (
            sum(p.numel() for p in module.parameters())
            == 2 * 3 * adapters.sites[key].width + 3 + adapters.sites[key].width
        )
    for given in runs:
        with torch.no_grad():
            plain = dict(tensors(model(**clone_inputs(given))))
            with adapters.using("a"):
                moved = dict(tensors(model(**clone_inputs(given))))
        assert any(v.shape != moved[k].shape or not torch.equal(v, moved[k]) for k, v in plain.items())
    record_property("bottleneck", "runs")


@pytest.mark.parametrize("model_type", SOME)
def test_some(model_type: str, record_property: Any) -> None:
    check(model_type, record_property)


@pytest.mark.architectures
@pytest.mark.parametrize("model_type", [name for name in model_types() if name not in SOME])
def test_every(model_type: str, record_property: Any) -> None:
    check(model_type, record_property)
