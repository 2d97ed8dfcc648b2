"""Embeddings and the output projection."""

from __future__ import annotations

import pytest

from graftwork.sites import Tap, discover
from tests.zoo.models import build


@pytest.mark.parametrize(
    ("name", "embeddings"),
    [
        ("bert", {"encoder.layer": Tap("embeddings", "output")}),
        ("bert_classifier", {"bert.encoder.layer": Tap("bert.embeddings", "output")}),
        ("gpt2", {"h": Tap("drop", "output")}),
        ("llama_causal", {"model.layers": Tap("model.embed_tokens", "output")}),
        ("opt", {"decoder.layers": Tap("decoder.embed_tokens", "output")}),  # positions are added by no module
        ("electra", {"encoder.layer": Tap("embeddings_project", "output")}),
        ("t5", {"encoder.block": Tap("encoder.dropout", "output"), "decoder.block": Tap("decoder.dropout", "output")}),
        ("swin", {"encoder.layers.0.blocks": Tap("embeddings", "output", 0)}),  # later stages go on with the stream
    ],
)
def test_embeddings(name, embeddings):
    sites = discover(build(name).model)
    assert {site.stack: site.output for site in sites.of_kind("embedding")} == embeddings
    assert all(site.layer == 0 for site in sites.of_kind("embedding"))


@pytest.mark.parametrize(
    ("name", "module", "stack", "tied"),
    [("llama_causal", "lm_head", "model.layers", False), ("t5_generation", "lm_head", "decoder.block", True)],
)
def test_output_projection(name, module, stack, tied):
    (site,) = discover(build(name).model).of_kind("output_projection")
    assert site.output == Tap(module, "input", 0)
    assert (site.stack, site.extra, site.width) == (stack, {"tied": tied}, 32)


def test_no_output_projection_without_a_head():
    assert not discover(build("bert").model).of_kind("output_projection")
