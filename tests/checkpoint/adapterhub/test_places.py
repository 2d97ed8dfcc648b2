"""Where AdapterHub's library has its modules, and where these are here, whatever the version of transformers."""

from __future__ import annotations

import pytest

from graftwork.checkpoint.adapterhub.places import path_there, projection_of, site_of
from tests.support.interpreter import sites_of

MODULES = {
    ("bert", "bert.encoder.layer.1.attention.output"): (1, "attention"),
    ("bert", "encoder.layer.0.output"): (0, "feed_forward"),
    ("distilbert", "distilbert.transformer.layer.1.output_adapters"): (1, "feed_forward"),
    ("distilbert", "transformer.layer.0.attention_adapters"): (0, "attention"),
    ("gpt2", "transformer.h.1.attention_adapters"): (1, "attention"),
    ("vit", "vit.encoder.layer.0.output.output_adapters"): (0, "feed_forward"),
    ("vit", "encoder.layer.1.attention_adapters"): (1, "attention"),
    ("bart", "model.decoder.layers.1.cross_attention_adapters"): (1, "cross_attention"),
    ("bart", "model.encoder.layers.0.output_adapters"): (0, "feed_forward"),
    ("t5", "encoder.block.0.layer.1"): (0, "feed_forward"),
    ("t5", "transformer.decoder.block.1.layer.1"): (1, "cross_attention"),
    ("t5", "decoder.block.1.layer.2"): (1, "feed_forward"),
    ("bert", "bert.encoder.layer.7.output"): None,
    ("bert", "bert.encoder.layer.0.elsewhere"): None,
    ("bert", "bert.pooler"): None,
    ("gpt2", "transformer.h.0.cross_attention_adapters"): None,
}


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_a_module_of_theirs_is_a_site(name: str, path: str) -> None:
    sites, wanted = sites_of(name), MODULES[name, path]
    key = site_of(path, sites)
    assert (key is None) == (wanted is None)
    if key is not None:
        assert (sites[key].layer, sites[key].kind) == wanted
        assert ("decoder" in path) == ("decoder" in key)
        assert path.endswith(path_there(key, sites, name))


PROJECTIONS = {
    ("bert", "bert.encoder.layer.1.attention.self.query"): "encoder.layer.1.attention.self.query",
    ("bert", "encoder.layer.1.output.dense"): "encoder.layer.1.output.dense",
    ("gpt2", "transformer.h.1.attn.c_attn"): "h.1.attn.c_attn",
    ("bert", "bert.encoder.layer.7.attention.self.query"): None,
    ("bert", "bert.pooler.dense"): None,
}


@pytest.mark.parametrize(("name", "path"), PROJECTIONS)
def test_a_linear_module_of_theirs_is_a_projection(name: str, path: str) -> None:
    assert projection_of(path, sites_of(name)) == PROJECTIONS[name, path]


@pytest.mark.parametrize(
    "inside", ["attention.attention.query", "attention.attention.value", "intermediate.dense", "output.dense"]
)
def test_modules_that_are_called_otherwise_now_are_found_by_their_role(inside: str) -> None:
    sites = sites_of("vit")
    key = projection_of(f"vit.encoder.layer.1.{inside}", sites)
    assert key is not None and sites[key].layer == 1
    assert path_there(key, sites, "vit") == f"encoder.layer.1.{inside}"
