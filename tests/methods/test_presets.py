"""Each preset and each option of the bottleneck family equals its formula in a whole model run by hand, in float64.

Three ways of placing the norms: BERT (behind the sum), GPT-2 (before the branch), GPT-NeoX (two branches side by side).
"""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch

import graftwork as gw
from graftwork.methods.layers.activations import ACTIVATIONS
from tests.support.interpreter import Lab, close

PRESETS: dict[str, gw.Bottleneck] = {
    "low-rank pal": gw.LowRankPAL(bottleneck_size=6),
    "houlsby": gw.Houlsby(bottleneck_size=5),
    "houlsby, base norms": gw.Houlsby(bottleneck_size=5, norms="base"),
    "standard": gw.Standard(bottleneck_size=5),
    "pfeiffer": gw.Pfeiffer(),
    "bapna_firat": gw.BapnaFirat(bottleneck_size=6),
    "parallel": gw.Parallel(),
    "parallel, from the input": gw.Parallel(reads="input"),
    "parallel, attention": gw.Parallel(sites=("attention", "feed_forward")),
    "parallel, layer": gw.Parallel(sites=("layer",)),
    "parallel, learned scale": gw.Parallel(scale="learned"),
    "adapter_plus": gw.AdapterPlus(reduction_factor=8),
    "adaptformer": gw.AdaptFormer(bottleneck_size=6),
    "adaptformer, from the input": gw.AdaptFormer(reads="input"),
    "llm-adapters, series": gw.LLMAdaptersSeries(bottleneck_size=6),
    "bottleneck": gw.Bottleneck(),
    "skip_bottleneck": gw.SkipBottleneck(),
    "compacter": gw.Compacter(bottleneck_size=8),
    "compacter++": gw.CompacterPlusPlus(bottleneck_size=8),
    "phm": gw.PHM(bottleneck_size=8),
    "low rank": gw.LowRank(bottleneck_size=8),
}
OPTIONS: dict[str, gw.Bottleneck] = {
    **{f"skip {skip}": gw.Bottleneck(skip=skip, skip_rank=3) for skip in ("scalar", "diagonal", "low_rank", "dense")},
    **{f"reads {read}": gw.Bottleneck(reads=read) for read in ("residual", "input", "stream", "normed", "layer_input")},
    **{f"{a}": gw.Bottleneck(activation=a, bottleneck_size=4) for a in ACTIVATIONS},
    "writes the stream": gw.Bottleneck(writes="stream"),
    "writes the stream, reads the normed": gw.Bottleneck(writes="stream", reads="normed"),
    "writes the stream, reads the residual": gw.Bottleneck(writes="stream", reads="residual"),
    "a size for each layer": gw.Pfeiffer(reduction_factor={1: 4, "default": 8}),
    "left out": gw.Houlsby(bottleneck_size=4, leave_out=(0,)),
    "norm before": gw.Bottleneck(norm_before=True),
    "norm after": gw.Bottleneck(norm_after=True),
    "both norms, dense skip": gw.Bottleneck(norm_before=True, norm_after=True, skip="dense"),
    "norm before, low-rank skip": gw.Bottleneck(norm_before=True, skip="low_rank"),
    "constant scale": gw.Bottleneck(scale=0.37),
    "whole number as scale": gw.Bottleneck(scale=3),
    "learned scale": gw.Bottleneck(scale="learned", up_bias=False),
    "channel scale": gw.Bottleneck(scale="channel"),
    "channel scale, diagonal skip, norm after": gw.Bottleneck(scale="channel", skip="diagonal", norm_after=True),
    "no up bias": gw.Bottleneck(up_bias=False),
    "no down bias": gw.Bottleneck(down_bias=False),
    "compacter, no biases": gw.Compacter(bottleneck_size=8, down_bias=False, up_bias=False),
    "gate": gw.Bottleneck(gate=True),
    "gate, norms, scalar skip": gw.Pfeiffer(gate=True, norm_before=True, norm_after=True, skip="scalar"),
    "wider than the model": gw.Pfeiffer(reduction_factor=0.5),
    **{f"compacter, n = {n}": gw.Compacter(n=n, bottleneck_size=8, norms="base") for n in (1, 2, 8)},
    **{f"compacter, rank {k}": gw.Compacter(rank=k, bottleneck_size=4) for k in (2, 3, None)},
    **{f"phm, rank {k}": gw.PHM(rank=k, n=2, bottleneck_size=6) for k in (1, 4)},
    "low rank, rank 3": gw.LowRank(rank=3, bottleneck_size=5, up_bias=False),
    "compacter, wider than the model": gw.Compacter(reduction_factor=0.25, norms="base"),
    "compacter, low-rank skip, scales, gate": gw.Compacter(
        bottleneck_size=4, skip="low_rank", scale="channel", gate=True, norm_before=True
    ),
    "compacter, norm after, diagonal skip": gw.Compacter(bottleneck_size=4, skip="diagonal", norm_after=True, scale=3),
    "phm, at the layer, for each its size": gw.PHM(sites=("layer",), bottleneck_size={1: 4, "default": 8}, scale=0.3),
}


@functools.lru_cache
def lab(model: str) -> Lab:
    return Lab(model)


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("config", [*PRESETS.values(), *OPTIONS.values()], ids=[*PRESETS, *OPTIONS])
def test_equals_its_formula(model: str, config: gw.Bottleneck) -> None:
    here = lab(model)
    here.add("a", config)
    try:
        with torch.no_grad():
            plain, actual, expected = here.run(None), here.run("a"), here.expect("a")
    finally:
        here.adapters.remove("a")
    close(actual, expected)
    assert float((actual - plain).abs().max()) > 1e-3  # so that the equation is not about nothing


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(
    "config",
    [
        gw.Houlsby(bottleneck_size=4, skip="low_rank", gate=True, scale="channel"),
        gw.Compacter(bottleneck_size=8),
        gw.Compacter(bottleneck_size=8, rank=None, scale="learned"),
        gw.PHM(bottleneck_size=8),
        gw.LowRank(bottleneck_size=8),
    ],
    ids=["houlsby", "compacter", "compacter, whole", "phm", "low rank"],
)
def test_gradients_equal_those_of_the_formula(model: str, config: gw.AdapterConfig) -> None:
    here = Lab(model)
    here.add("a", config)
    here.adapters.train_only("a")
    weights = [p for p in here.model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(here.expect("a").square().mean(), weights)
    for actual, wanted in zip(torch.autograd.grad(here.run("a").square().mean(), weights), expected, strict=True):
        close(actual, wanted, 1e-9)


def test_the_pfeiffer_formula_once_more_without_the_interpreter() -> None:
    """norm(s + y + A(norm(s + y))), in the letters of the paper, for one layer of BERT."""
    here = Lab("bert")
    here.add("a", gw.Pfeiffer(bottleneck_size=4, leave_out=(1,)))
    layer, (adapter,) = here.plain.encoder.layer[0], here.adapters.modules_of("a").values()
    with torch.no_grad():
        states = here.plain(**here.inputs, output_hidden_states=True).hidden_states
        mask = here.inputs["attention_mask"].bool()[:, None, None, :].expand(-1, 1, states[0].shape[1], -1)
        s = layer.attention(states[0], mask)[0]
        y = layer.output.dense(layer.intermediate(s))
        norm = layer.output.LayerNorm
        h = norm(s + y)
        added = torch.relu(h @ adapter.down.T + adapter.down_bias) @ adapter.up.T + adapter.up_bias
        with here.adapters.using("a"):
            actual = here.model(**here.inputs, output_hidden_states=True).hidden_states[1]
    close(actual, norm(s + y + added))


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_a_gate_without_a_mask_counts_every_position(model: str) -> None:
    here = lab(model)
    here.add("a", gw.Pfeiffer(gate=True))
    try:
        with torch.no_grad():
            ids = {"input_ids": here.inputs["input_ids"]}
            close(here.run("a", **ids), here.expect("a", **ids))
    finally:
        here.adapters.remove("a")


def test_a_gate_in_a_decoder_looks_at_no_later_position() -> None:
    here = lab("gpt2")
    here.add("a", gw.Houlsby(bottleneck_size=4, gate=True))
    ids = here.inputs["input_ids"].clone()
    try:
        with torch.no_grad():
            before = here.run("a", input_ids=ids)
            ids[:, -1] = 5
            after = here.run("a", input_ids=ids)
    finally:
        here.adapters.remove("a")
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert not torch.equal(before[:, -1], after[:, -1])


@pytest.mark.parametrize("preset", PRESETS)
def test_starting_at_zero_changes_no_bit(preset: str) -> None:
    here = lab("bert")
    config = dataclasses.replace(PRESETS[preset], init="zero", gate=True, skip="low_rank", norm_after=True)
    here.adapters.add("zero", config)  # float32 weights in a float64 model
    try:
        with torch.no_grad():
            assert torch.equal(here.run("zero"), here.run(None))
    finally:
        here.adapters.remove("zero")
