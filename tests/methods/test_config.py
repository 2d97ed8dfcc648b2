"""Configurations: pure data, JSON both ways, and refused with the value, the place and the way out."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import pickle
import re
from typing import Any

import pytest

import graftwork as gw
from graftwork.methods import register
from graftwork.methods.layers.activations import ACTIVATIONS, canonical

BOTTLENECKS = {name: cls for name, cls in gw.methods().items() if issubclass(cls, gw.Bottleneck)}
EVERYTHING: dict[str, Any] = {
    "sites": ("layer",),
    "reads": "layer_input",
    "writes": "stream",
    "reduction_factor": {"1": 4, "encoder.layer.0": 2, "default": 8},
    "activation": "silu",
    "init": "zero",
    "init_std": 0.5,
    "down_bias": False,
    "up_bias": False,
    "scale": "learned",
    "skip": "low_rank",
    "skip_rank": 2,
    "norm_before": True,
    "norm_after": True,
    "dropout": 0.1,
    "stochastic_depth": 0.2,
    "gate": True,
    "leave_out": (0, "decoder.block.3"),
    "norms": "own",
    "dtype": "bfloat16",
    "n": 2,
    "rank": 3,
    "invertible": False,
    "invertible_reduction": 3,
}


@pytest.mark.parametrize("method", gw.methods())
def test_round_trip_of_the_preset(method: str) -> None:
    config = gw.methods()[method]()
    data = json.loads(json.dumps(config.to_dict()))
    assert data["method"] == method
    again = gw.config_from_dict(data)
    assert type(again) is type(config)
    assert again == config
    assert again.to_dict() == config.to_dict()


@pytest.mark.parametrize("method", BOTTLENECKS)
def test_round_trip_with_every_option_away_from_its_default(method: str) -> None:
    preset = BOTTLENECKS[method]
    fields = {f.name for f in dataclasses.fields(preset)}
    assert fields - set(EVERYTHING) == {"bottleneck_size"}  # a new option is listed above; this excludes the other size
    # Low rank has no rule that a standard deviation could start.
    options = {k: v for k, v in EVERYTHING.items() if k in fields and (preset, k) != (gw.LowRank, "init_std")}
    config = preset(**options)
    again = gw.config_from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    for field, value in options.items():
        assert getattr(again, field) == value, field


@pytest.mark.parametrize("config", [gw.Pfeiffer(reduction_factor={1: 4, "default": 8}), gw.AdapterPlus(leave_out=[1])])
def test_copies_and_pickles(config: gw.AdapterConfig) -> None:
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, dtype="bfloat16").dtype == "bfloat16"


def test_numbers_and_texts_name_the_same_layer() -> None:
    assert gw.Pfeiffer(reduction_factor={1: 4, "default": 8}) == gw.Pfeiffer(reduction_factor={"1": 4, "default": 8})


def test_a_configuration_does_not_follow_the_mapping_it_was_made_of() -> None:
    sizes = {"default": 8}
    config = gw.Pfeiffer(reduction_factor=sizes)
    sizes["default"] = 2
    assert config == gw.Pfeiffer(reduction_factor={"default": 8})


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        gw.Pfeiffer().activation = "gelu"  # type: ignore[misc]


def test_an_activation_has_one_name() -> None:
    assert gw.Bottleneck(activation="swish") == gw.Bottleneck(activation="silu")
    assert {canonical(a) for a in ACTIVATIONS} == set(ACTIVATIONS) - {"gelu_new", "swish", "linear"}


def test_the_published_presets() -> None:
    """What the table of methods says of each, in one place."""
    table = {
        gw.Houlsby: (
            ("attention", "feed_forward"),
            "output",
            "branch",
            "gelu_tanh",
            "bottleneck_size",
            64,
            "houlsby",
            "own",
        ),
        gw.Standard: (
            ("attention", "feed_forward"),
            "output",
            "branch",
            "relu",
            "bottleneck_size",
            64,
            "houlsby",
            "base",
        ),
        gw.Pfeiffer: (("feed_forward",), "normed", "branch", "relu", "reduction_factor", 16, "normal", "base"),
        gw.BapnaFirat: (("layer",), "output", "stream", "relu", "bottleneck_size", 64, "xavier", "base"),
        gw.Bottleneck: (
            ("attention", "feed_forward"),
            "output",
            "branch",
            "relu",
            "bottleneck_size",
            16,
            "houlsby",
            "base",
        ),
        gw.Parallel: (("feed_forward",), "residual", "branch", "relu", "reduction_factor", 2, "parallel", "base"),
        gw.AdapterPlus: (("feed_forward",), "stream", "stream", "gelu", "reduction_factor", 96, "houlsby", "base"),
        gw.AdaptFormer: (("feed_forward",), "residual", "branch", "relu", "bottleneck_size", 64, "parallel", "base"),
        gw.LLMAdaptersSeries: (("feed_forward",), "output", "branch", "tanh", "bottleneck_size", 256, "normal", "base"),
        gw.AdaMix: (("feed_forward",), "output", "branch", "gelu", "bottleneck_size", 48, "normal", "base"),
        **{
            preset: (sites, "output", "branch", "gelu_tanh", "bottleneck_size", 24, "glorot", "own")
            for preset, sites in (
                (gw.Compacter, ("attention", "feed_forward")),
                (gw.CompacterPlusPlus, ("feed_forward",)),
                (gw.PHM, ("attention", "feed_forward")),
                (gw.LowRank, ("attention", "feed_forward")),
            )
        },
    }
    for preset, row in table.items():
        c = preset()
        assert (c.sites, c.reads, c.writes, c.activation, row[4], getattr(c, row[4]), c.init, c.norms) == row, preset
    assert (gw.Houlsby().init_std, gw.Pfeiffer().init_std) == (1e-2, 0.02)
    assert (gw.Parallel().scale, gw.AdapterPlus().scale, gw.AdapterPlus().stochastic_depth) == (4.0, "channel", 0.1)
    assert gw.BapnaFirat().norm_before
    assert (gw.AdaptFormer().scale, gw.AdaptFormer().dropout) == (0.1, 0.1)
    assert not gw.LLMAdaptersSeries().down_bias and not gw.LLMAdaptersSeries().up_bias
    for ruled, n, rank, std in (
        (gw.Compacter(), 4, 1, 1e-4),
        (gw.CompacterPlusPlus(), 4, 1, 1e-4),
        (gw.PHM(), 4, None, 1e-2),
    ):
        assert (ruled.n, ruled.rank, ruled.init_std) == (n, rank, std)
    assert gw.LowRank().rank == 1


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (
            gw.Hyperformer(),
            {
                "sites": ("attention", "feed_forward"),
                "reads": "output",
                "activation": "gelu_tanh",
                "embedding_size": 64,
                "hidden_size": 128,
                "init_std": 1e-2,
                "norms": "own",
            },
        ),
        (gw.PAL(), {"size": 204, "heads": 12, "activation": "identity", "init_std": 0.02}),
        (gw.LowRankPAL(), {"bottleneck_size": 100, "reads": "layer_input", "activation": "gelu", "init_std": 0.02}),
        (
            gw.InvertiblePfeiffer(),
            {"sites": ("feed_forward",), "reads": "normed", "reduction_factor": 2, "invertible_reduction": 2},
        ),
        (
            gw.KAdapter(),
            {"size": 768, "heads": 12, "inner": 3072, "depth": 2, "combine": "concat", "init_std": 2e-4},
        ),
        (gw.LoReFT(), {"rank": 8, "first": 7, "tied": True}),
        (gw.AdaMix(), {"experts": 4, "share_down": False, "share_up": True, "init_std": 0.02}),
        (
            gw.LLMAdaptersParallel(),
            {"bottleneck_size": 256, "activation": "tanh", "init_std": 0.02, "dropout": 0.0},
        ),
        (gw.MoE(), {"noise": True, "importance": 0.1, "load": 0.1}),
        (gw.ResidualAdapter(), {"mode": "parallel", "init": "he", "norms": "own"}),
        (gw.SelfModulation(), {"hidden_size": 32, "classes": 0, "init_std": 0.02}),
    ],
    ids=lambda value: getattr(value, "method", None),
)
def test_the_published_options_of_the_others(config: gw.AdapterConfig, published: dict[str, Any]) -> None:
    assert {name: getattr(config, name) for name in published} == published


BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"reduction": 16}, ("reduction", "reduction_factor")),
    ({"k": 16}, ("'k'", "bottleneck_size", "leave_out")),
    ({"reduction_factor": 0}, ("reduction_factor", "0", "above 0")),
    ({"reduction_factor": -1}, ("reduction_factor", "-1", "above 0")),
    ({"reduction_factor": "16"}, ("reduction_factor", "'16'", "number")),
    ({"reduction_factor": True}, ("reduction_factor", "True", "number")),
    ({"reduction_factor": float("nan")}, ("reduction_factor", "nan", "number")),
    ({"reduction_factor": float("inf")}, ("reduction_factor", "inf", "number")),
    ({"reduction_factor": {}}, ("reduction_factor", "empty", "'default'")),
    ({"reduction_factor": {"1": 0}}, ("reduction_factor", "0", "above 0")),
    ({"reduction_factor": 16, "bottleneck_size": 4}, ("reduction_factor=16", "bottleneck_size=4", "give one")),
    ({"bottleneck_size": 0.5}, ("bottleneck_size", "0.5", "whole number")),
    ({"bottleneck_size": {"default": 2.5}}, ("bottleneck_size", "2.5", "whole number")),
    ({"activation": "swiglu"}, ("activation", "'swiglu'", "relu")),
    ({"activation": None}, ("activation", "None", "relu")),
    ({"init": "bert"}, ("init", "'bert'", "'zero'")),
    ({"init": ["normal"]}, ("init", "['normal']", "'normal'")),
    ({"init_std": -1}, ("init_std", "-1", "0.0")),
    ({"init_std": "x"}, ("init_std", "'x'", "number")),
    ({"reads": "norm"}, ("reads", "'norm'", "'normed'")),
    ({"writes": "output"}, ("writes", "'output'", "'branch'", "'stream'")),
    ({"sites": ()}, ("sites", "()", "feed_forward")),
    ({"sites": "ffn"}, ("sites", "'ffn'", "feed_forward")),
    ({"sites": None}, ("sites", "None", "feed_forward")),
    ({"sites": [["attention"]]}, ("sites", "[['attention']]", "feed_forward")),
    ({"skip": "low-rank"}, ("skip", "'low-rank'", "'low_rank'")),
    ({"skip_rank": 0}, ("skip_rank", "0", "whole number of 1 or more")),
    ({"skip_rank": 1.5}, ("skip_rank", "1.5", "whole number")),
    ({"scale": "per_channel"}, ("scale", "'per_channel'", "'channel'")),
    ({"scale": None}, ("scale", "None", "number")),
    ({"scale": [1]}, ("scale", "[1]", "number")),
    ({"scale": True}, ("scale", "True", "number")),
    ({"scale": float("nan")}, ("scale", "nan", "number")),
    ({"dropout": 1.0}, ("dropout", "1.0", "0.0")),
    ({"dropout": "0.1"}, ("dropout", "'0.1'", "number")),
    ({"stochastic_depth": -0.1}, ("stochastic_depth", "-0.1", "0.0")),
    ({"gate": "yes"}, ("gate", "'yes'", "True or False")),
    ({"down_bias": 0}, ("down_bias", "0", "True or False")),
    ({"up_bias": None}, ("up_bias", "None", "True or False")),
    ({"norm_before": 1}, ("norm_before", "1", "True or False")),
    ({"norm_after": "pre"}, ("norm_after", "'pre'", "True or False")),
    ({"leave_out": 3}, ("leave_out", "3", "[0, 1]")),
    ({"leave_out": "3"}, ("leave_out", "'3'", "[0, 1]")),
    ({"leave_out": [1.5]}, ("leave_out", "1.5", "[0, 1]")),
    ({"norms": "mine"}, ("norms", "'mine'", "'base'", "'own'")),
    ({"dtype": "float17"}, ("dtype", "'float17'", "'float32'")),
    ({"dtype": "int32"}, ("dtype", "'int32'", "'float32'")),
    ({"dtype": 32}, ("dtype", "32", "'float32'")),
]


@pytest.mark.parametrize("preset", BOTTLENECKS.values())
@pytest.mark.parametrize(("options", "said"), BAD, ids=[re.sub(r"\W+", " ", str(o)) for o, _ in BAD])
def test_a_bad_option_is_refused_by_name_and_value(
    preset: type[gw.Bottleneck], options: dict[str, Any], said: tuple[str, ...]
) -> None:
    with pytest.raises(gw.ConfigError) as error:
        preset(**options)
    for text in (preset.__name__, *said):
        assert text in str(error.value)


def test_options_are_given_by_name() -> None:
    with pytest.raises(gw.ConfigError, match=re.escape("Pfeiffer(16): options are given by name")):
        gw.Pfeiffer(16)  # type: ignore[misc]
    assert "reduction_factor" in inspect.signature(gw.Pfeiffer).parameters  # and an editor still shows them


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"method": "lora_plus"}, ("'lora_plus'", "pfeiffer", "houlsby")),
        ({}, ("None", "pfeiffer")),
        ([], ("[]", "pfeiffer")),
        ({"method": "pfeiffer", "reductions": 3}, ("Pfeiffer", "'reductions'", "'reduction_factor'")),
        ({"method": "pfeiffer", "dropout": 2}, ("Pfeiffer", "dropout", "2")),
        ({"method": "peft"}, ("'peft'", "needs the option 'peft'")),
    ],
)
def test_bad_data(data: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(gw.ConfigError) as error:
        gw.config_from_dict(data)
    for text in said:
        assert text in str(error.value)


def test_a_method_name_is_registered_once() -> None:
    with pytest.raises(gw.ConfigError, match="'pfeiffer' is empty or taken"):
        register(gw.Pfeiffer)
