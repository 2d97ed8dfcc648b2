"""Sites that a method cannot serve: left out with a warning, refused where they were asked for, the same after a load."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import transformers as hf

import graftwork as gw


def mobilevit() -> hf.MobileViTModel:
    """Convolutions with a residual sum, channels first, between layers of a transformer."""
    torch.manual_seed(0)
    config = hf.MobileViTConfig(
        image_size=32,
        hidden_sizes=[8, 12, 16],
        neck_hidden_sizes=[4, 8, 8, 8, 8, 8, 16],
        num_attention_heads=2,
        mlp_ratio=2.0,
        hidden_act="relu",
        expand_ratio=2.0,
    )
    return hf.MobileViTModel(config).eval()


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [gw.Pfeiffer(), gw.Houlsby(), gw.Compacter(), gw.Parallel()])
def test_what_stands_at_transformer_layers_leaves_the_convolutions_out(
    config: gw.AdapterConfig, tmp_path: Path
) -> None:
    model = mobilevit()
    adapters = gw.attach(model)
    mixers = {adapters.sites.key_of(site) for site in adapters.sites.of_kind("mixer")}
    assert mixers, "no site that a bottleneck cannot serve"
    with pytest.warns(UserWarning, match=rf"leaves out {len(mixers)} sites .* of kind mixer\).*dimension 1") as told:
        adapters.add("a", config)
    assert sum("leaves out" in str(one.message) for one in told) == 1
    there = adapters.modules_of("a")
    assert there
    assert not mixers & set(there)
    with torch.no_grad():
        for module in there.values():
            for parameter in module.parameters():
                parameter.add_(0.2)
        adapters.active = "a"
        wanted = model(IMAGES).last_hidden_state
    adapters.save("a", tmp_path / "a")
    fresh = mobilevit()
    other = gw.attach(fresh)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        other.active = other.load(tmp_path / "a")
    assert set(other.modules_of("a")) == set(there)
    with torch.no_grad():
        assert torch.equal(fresh(IMAGES).last_hidden_state, wanted)


def test_a_kind_that_was_asked_for_is_refused() -> None:
    adapters = gw.attach(mobilevit())
    with pytest.raises(gw.SiteError, match=r"mixer the channels are dimension 1; leave that kind out"):
        adapters.add("a", gw.Pfeiffer(sites=("feed_forward", "mixer")))
    assert adapters.names == ()


def test_where_nothing_is_left_it_is_refused_with_the_reason() -> None:
    config = hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    adapters = gw.attach(hf.ConvNextModel(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            gw.SiteError, match=r"Pfeiffer mixes the last dimension, but at .* the channels are dimension 1"
        ):
            adapters.add("a", gw.Pfeiffer())
    assert adapters.names == ()


def test_an_option_that_fits_no_width_is_no_reason_to_leave_out() -> None:
    adapters = gw.attach(mobilevit())
    with pytest.raises(gw.ConfigError, match="divide"):
        adapters.add("a", gw.Compacter(n=5))


def test_a_read_that_some_sites_do_not_give() -> None:
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(4, 4), "second": torch.nn.Linear(4, 4)})
    sites = [
        gw.Site(
            stack="",
            layer=n,
            kind="feed_forward",
            block=name,
            output=gw.Tap(name, "output"),
            residual=gw.Tap(name, "input", 0) if n else None,
            width=4,
        )
        for n, name in enumerate(model)
    ]
    adapters = gw.attach(model, sites=sites)
    with pytest.warns(UserWarning, match="leaves out 1 sites .*does not say where its 'residual' passes"):
        adapters.add("a", gw.Pfeiffer(bottleneck_size=2))
    assert set(adapters.modules_of("a")) == {"1.feed_forward"}
