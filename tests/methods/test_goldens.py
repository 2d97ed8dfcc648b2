"""Published parameter counts, on full-size models without memory."""

from __future__ import annotations

import functools

import pytest
import torch
import transformers as hf

import graftwork as gw

EIGHT = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")


@functools.lru_cache
def attached(name: str) -> gw.Adapters:
    with torch.device("meta"):
        if name == "bert-base":
            return gw.attach(hf.BertModel(hf.BertConfig()))
        if name == "vit-base":
            return gw.attach(hf.ViTModel(hf.ViTConfig()))
        if name == "llama-7b":
            return gw.attach(hf.LlamaForCausalLM(hf.LlamaConfig()))
        sizes = {"d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12, "num_layers": 12, "vocab_size": 32_100}
        return gw.attach(hf.T5Model(hf.T5Config(**sizes)))


def test_t5_base_is_the_published_one() -> None:
    adapters = attached("t5-base")
    assert adapters.summary().base == 222_882_048
    assert sum(adapters.sites.stacks.values()) == 24
    assert len(adapters.sites.norms) == 62
    assert (
        sum(p.numel() for path in adapters.sites.norms for p in adapters.model.get_submodule(path).parameters())
        == 47_616
    )


def test_bert_base_has_25_norms() -> None:
    assert len(attached("bert-base").sites.norms) == 25


@pytest.mark.parametrize(
    ("model", "config", "weights"),
    [
        ("bert-base", gw.Houlsby(norms="base"), 2_379_264),
        ("bert-base", gw.Houlsby(), 2_417_664),
        ("bert-base", gw.Standard(up_bias=False), 24 * 98_368),
        ("bert-base", gw.SkipBottleneck(), 24 * (2 * 768 * 16 + 16 + 768 + 768)),
        ("bert-base", gw.SkipBottleneck(), 627_072),
        ("bert-base", gw.Pfeiffer(), 894_528),
        ("bert-base", gw.Pfeiffer(reduction_factor=16), 894_528),
        ("bert-base", gw.PAL(), 1_819_836),
        ("bert-base", gw.LowRankPAL(), 1_853_616),
        ("t5-base", gw.Houlsby(bottleneck_size=24, norms="base"), 1_807_488),
        ("t5-base", gw.Houlsby(bottleneck_size=24), 1_855_104),
        ("t5-base", gw.Pfeiffer(bottleneck_size=24), 903_744),
        ("t5-base", gw.Pfeiffer(bottleneck_size=24, norms="own"), 951_360),
        ("t5-base", gw.Compacter(norms="base"), 114_112),
        ("t5-base", gw.Compacter(), 161_728),
        ("t5-base", gw.CompacterPlusPlus(norms="base"), 57_088),
        ("t5-base", gw.CompacterPlusPlus(), 104_704),
        ("t5-base", gw.LowRank(norms="base"), 114_048),
        ("t5-base", gw.LowRank(), 161_664),
        ("t5-base", gw.PHM(n=12, norms="base"), 351_360),
        ("t5-base", gw.PHM(n=12), 398_976),
        ("t5-base", gw.HyperformerPlusPlus(tasks=EIGHT, norms="base"), 5_163_440),
        ("t5-base", gw.HyperformerPlusPlus(tasks=EIGHT), 5_211_056),
        ("t5-base", gw.Hyperformer(tasks=EIGHT, norms="base"), 122_312_960),
        ("vit-base", gw.AdaptFormer(), 12 * (2 * 768 * 64 + 64 + 768)),
        ("vit-base", gw.AdaptFormer(), 1_189_632),
        ("bert-base", gw.AdaMix(), 12 * (4 * (768 * 48 + 48) + 48 * 768 + 768)),
        ("bert-base", gw.AdaMix(), 2_223_360),
        ("bert-base", gw.AdaMix().exported(), 894_528),
        ("bert-base", gw.LoReFT(rank=1, first=1), 12 * (2 * 768 + 1)),
        ("bert-base", gw.LoReFT(rank=1, first=1, last=1, tied=False), 2 * 12 * (2 * 768 + 1)),
        ("llama-7b", gw.LoReFT(), 2_097_408),
        ("llama-7b", gw.LLMAdaptersSeries(), 32 * 2 * 4096 * 256),
        ("llama-7b", gw.LLMAdaptersParallel(), 32 * 2 * (4096 + 11_008) * 256),
    ],
)
def test_published_count(model: str, config: gw.AdapterConfig, weights: int) -> None:
    adapters = attached(model)
    adapters.add("a", config)
    try:
        row = adapters.summary().rows[0]  # what is a member's alone has a row behind it
        assert row.weights == weights
        adapters.train_only("a", active=None)
        assert sum(p.numel() for p in adapters.model.parameters() if p.requires_grad) == weights
    finally:
        adapters.active = None
        adapters.remove("a")


@pytest.mark.parametrize(
    ("model", "config", "weights"),
    [
        ("bert-base", gw.Standard(up_bias=False), 98_368),
        ("t5-base", gw.Houlsby(bottleneck_size=24), 37_656),
        ("t5-base", gw.PHM(n=12), 7_320),
        ("t5-base", gw.LowRank(), 2_376),
        ("t5-base", gw.Compacter(), 2_376),  # and its rule, of 64, once
    ],
)
def test_published_count_of_a_site(model: str, config: gw.AdapterConfig, weights: int) -> None:
    adapters = attached(model)
    adapters.add("a", config)
    try:
        shared = adapters.shared_of("a")
        counts = [sum(p.numel() for p in m.parameters()) for m in adapters.modules_of("a").values()]
        once = 0 if shared is None else sum(p.numel() for p in shared.parameters())
    finally:
        adapters.remove("a")
    assert counts == [weights] * (48 if model == "t5-base" else 24)
    assert once == (64 if isinstance(config, gw.Compacter) else 0)


@pytest.mark.parametrize(
    ("model", "config", "percent"),
    [
        ("bert-base", gw.Pfeiffer(), 0.82),
        ("t5-base", gw.Houlsby(bottleneck_size=24), 0.832),
        ("t5-base", gw.Pfeiffer(bottleneck_size=24, norms="own"), 0.427),
        ("t5-base", gw.Compacter(), 0.073),
        ("t5-base", gw.CompacterPlusPlus(), 0.047),
        ("t5-base", gw.LowRank(), 0.073),
        ("t5-base", gw.PHM(n=12), 0.179),
        ("t5-base", gw.HyperformerPlusPlus(tasks=EIGHT), 2.338),
    ],
)
def test_share_of_the_base_is_the_papers(model: str, config: gw.AdapterConfig, percent: float) -> None:
    """To the last digit that is published."""
    digits = len(str(percent).partition(".")[2])
    assert round(100 * share(model, config), digits) == percent


@pytest.mark.parametrize(
    ("model", "config", "tasks", "published"),
    [
        ("t5-base", gw.HyperformerPlusPlus(tasks=EIGHT, norms="base"), 1 / 8, 0.00290),
        ("t5-base", gw.HyperformerPlusPlus(tasks=EIGHT), 1 / 8, 0.00292),
        ("bert-base", gw.PAL(), 8, 0.133),
        ("bert-base", gw.LowRankPAL(), 8, 0.135),
    ],
)
def test_share_by_tasks_is_the_papers(model: str, config: gw.AdapterConfig, tasks: float, published: float) -> None:
    """An eighth of what serves eight tasks, and what eight tasks cost that each bring their own: 1.13 times the base."""
    assert round(tasks * share(model, config), 5 if tasks < 1 else 3) == published


@pytest.mark.parametrize(
    ("config", "published"),
    [(gw.LoReFT(), 0.031), (gw.LLMAdaptersSeries(), 0.99), (gw.LLMAdaptersParallel(), 3.54)],
)
def test_share_of_the_whole_is_the_papers(config: gw.AdapterConfig, published: float) -> None:
    """The trained weights over all weights, in percent, to the last digit that is published."""
    part = share("llama-7b", config)
    assert round(100 * part / (1 + part), len(str(published).partition(".")[2])) == published


def share(model: str, config: gw.AdapterConfig) -> float:
    """The weights of an adapter, divided by those of the base."""
    adapters = attached(model)
    adapters.add("a", config)
    try:
        return adapters.summary().rows[0].share  # what is a member's alone has a row behind it
    finally:
        adapters.remove("a")


def test_a_fusion_of_bert_base() -> None:
    """3 d² a layer and the two biases: 21.25 million weights over 12 layers."""
    adapters = attached("bert-base")
    pool = gw.Fuse("a", "b", name="f")
    for name in "ab":
        adapters.add(name, gw.Pfeiffer())
    adapters.add_fusion(pool)
    try:
        counted = {row.name: row.weights for row in adapters.summary().rows}
    finally:
        for name in ("f", "a", "b"):
            adapters.remove(name)
    assert counted["f"] == 12 * (3 * 768**2 + 2 * 768) == 21_252_096


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, 8 * 768 * 12),
        ({"across_layers": True}, 8 * 768),
        ({"uniform": True}, 8 * 12),
        ({"uniform": True, "across_layers": True}, 8),
    ],
    ids=["ScaLearn", "ScaLearn++", "ScaLearnUniform", "ScaLearnUniform++"],
)
def test_scalearn_of_eight_on_bert_base(options: dict[str, bool], weights: int) -> None:
    """73,728, 6,144, 96 and 8 numbers a target."""
    adapters = attached("bert-base")
    names = [f"t{n}" for n in range(8)]
    for name in names:
        adapters.add(name, gw.Pfeiffer())
    adapters.add_fusion(gw.ScaLearn(*names, name="s"), gw.ScaLearnConfig(**options))
    try:
        counted = {row.name: row.weights for row in adapters.summary().rows}
        adapters.train_only("s")
        learning = sum(p.numel() for p in adapters.model.parameters() if p.requires_grad)
    finally:
        adapters.active = None
        for name in ("s", *names):
            adapters.remove(name)
    assert counted["s"] == learning == weights
