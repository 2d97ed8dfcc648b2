"""Weights are counted on the base at hand, and agree with formulas."""

from __future__ import annotations

import functools
from typing import Any

import torch
import transformers as hf

import graftwork as gw
from graftwork.report.recommending import Base, Count
from graftwork.report.recommending.base import KEYS

LAYERS, WIDTH = 2, 768


def adapters_of(model_class: Any, config: Any) -> gw.Adapters:
    with torch.device("meta"):
        return gw.attach(model_class(config))


@functools.lru_cache
def bert() -> gw.Adapters:
    return adapters_of(hf.BertModel, hf.BertConfig(num_hidden_layers=LAYERS))


def test_every_candidate_is_counted_and_the_model_left_as_it_was() -> None:
    found = Base.of(bert(), "bert", pool=3)
    assert set(found.counts) == set(KEYS)
    assert bert().names == () and not bert().fusions
    assert found.parameters == bert().summary().base == found.counts["full"].own


def test_the_counts_are_those_of_formulas() -> None:
    counts = Base.of(bert(), "bert", pool=3).counts
    pfeiffer = LAYERS * (2 * WIDTH * 48 + 48 + WIDTH)
    assert counts["pfeiffer"] == counts["intermediate"] == Count(own=pfeiffer)
    assert counts["together"] == Count(shared=pfeiffer)
    assert counts["fusion"].own == pfeiffer + LAYERS * (3 * WIDTH**2 + 2 * WIDTH)
    assert counts["scalearn"].own == pfeiffer + 3 * LAYERS * WIDTH
    assert counts["hyperformer_plus_plus"].own == 64
    assert counts["pal"].shared == counts["full"].own
    assert counts["head"] == Count()


def test_a_scale_more_for_each_adapter_and_none_for_a_fusion() -> None:
    two, three = Base.of(bert(), "bert", pool=2).counts, Base.of(bert(), "bert", pool=3).counts
    assert three["scalearn"].own - two["scalearn"].own == LAYERS * WIDTH
    assert three["fusion"] == two["fusion"]


def test_tasks_share_in_equal_parts() -> None:
    assert Count(own=10, shared=100).a_task(3) == 44
    assert Count(own=10).a_task(3) == 10
    assert Count(why_not="no").a_task(1) is None


def test_a_base_without_streams_refuses_adapters_and_says_why() -> None:
    found = Base.of(adapters_of(hf.ResNetModel, hf.ResNetConfig(depths=[1, 1, 1, 1])), "resnet").counts
    assert not found["pfeiffer"].fits and found["pfeiffer"].why_not
    assert not found["fusion"].fits and found["full"].fits
