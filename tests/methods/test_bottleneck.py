"""The bottleneck's module: sizes, starts, randomness."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods import Place
from graftwork.methods.bottleneck import BottleneckModule
from graftwork.sites import Site, Tap
from tests.support import formulas as formula

BOTTLENECKS = [preset for preset in gw.methods().values() if issubclass(preset, gw.Bottleneck)]


def place(width: int = 256, layer: int = 0, kind: Any = "feed_forward", stack: str = "encoder.layer") -> Place:
    site = Site(stack, layer, kind, f"{stack}.{layer}", Tap(f"{stack}.{layer}.dense", "output"), width)
    return Place(site, layers=12, block_kinds=("attention", "feed_forward"))


def build(config: gw.Bottleneck, **at: Any) -> BottleneckModule:
    here = place(**at)
    module = config.build(here, config.shared([here, place(kind="embedding")]))
    assert isinstance(module, BottleneckModule)
    return module


class NoPadding:
    def padding_mask(self, read: Tensor) -> Tensor | None:
        return None


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "layer", "size"),
    [
        (gw.Pfeiffer(), 0, 16),
        (gw.Pfeiffer(reduction_factor=3), 0, 85),
        (gw.Pfeiffer(reduction_factor=1000), 0, 1),
        (gw.Pfeiffer(reduction_factor=0.5), 0, 512),
        (gw.Pfeiffer(bottleneck_size=7), 0, 7),
        (gw.Pfeiffer(reduction_factor={"3": 2, "default": 4}), 3, 128),
        (gw.Pfeiffer(reduction_factor={3: 2, "default": 4}), 3, 128),
        (gw.Pfeiffer(reduction_factor={3: 2, "default": 4}), 4, 64),
        (gw.Pfeiffer(reduction_factor={"encoder.layer.3": 8, "3": 2, "default": 4}), 3, 32),
        (gw.Pfeiffer(bottleneck_size={"default": 9}), 11, 9),
        (gw.Houlsby(), 0, 64),
        (gw.Parallel(), 0, 128),
        (gw.AdapterPlus(), 0, 2),
        (gw.Bottleneck(), 0, 16),
    ],
)
def test_size(config: gw.Bottleneck, layer: int, size: int) -> None:
    module = build(config, layer=layer)
    assert (module.down.shape, module.down_bias.shape, module.up.shape) == ((size, 256), (size,), (256, size))


def test_a_mapping_without_the_layer_and_without_a_default_says_what_is_missing() -> None:
    with pytest.raises(
        gw.ConfigError, match=r"Pfeiffer: reduction_factor has no value for layer 5 of 'encoder.layer'; .*default"
    ):
        gw.Pfeiffer(reduction_factor={"3": 2}).build(place(layer=5))


@pytest.mark.parametrize(
    ("left", "stands"), [((3,), False), (("3",), False), (("encoder.layer.3",), False), (("decoder.block.3", 4), True)]
)
def test_leave_out(left: tuple[Any, ...], stands: bool) -> None:
    assert (gw.Pfeiffer(leave_out=left).build(place(layer=3)) is not None) is stands


@pytest.mark.parametrize(
    ("kind", "presets"),
    [
        ("attention", {gw.Houlsby, gw.Standard, gw.Bottleneck, gw.SkipBottleneck, gw.Compacter, gw.PHM, gw.LowRank}),
        ("cross_attention", set()),
        ("feed_forward", set(BOTTLENECKS) - {gw.BapnaFirat}),
        ("mixer", {gw.Houlsby, gw.Standard, gw.Bottleneck, gw.SkipBottleneck, gw.Compacter, gw.PHM, gw.LowRank}),
        ("layer", {gw.BapnaFirat}),
        ("embedding", {gw.InvertiblePfeiffer}),
    ],
)
def test_where_each_preset_stands(kind: str, presets: set[type[gw.Bottleneck]]) -> None:
    here, both = place(kind=kind), [place(kind=kind), place(kind="embedding")]
    assert {p for p in BOTTLENECKS if p().build(here, p().shared(both)) is not None} == presets


def test_a_lone_mixer_takes_the_feed_forward_adapter() -> None:
    site = Site("layers", 0, "mixer", "layers.0", Tap("layers.0.mixer", "output"), 32)
    assert gw.Pfeiffer().build(Place(site, 2, block_kinds=("mixer", "layer"))) is not None
    assert gw.Pfeiffer().build(Place(site, 2, block_kinds=("mixer", "feed_forward"))) is None
    assert gw.BapnaFirat().build(Place(site, 2, block_kinds=("mixer", "layer"))) is None


# -- the start ---------------------------------------------------------------------------------------------------------


def flat(*weights: Tensor) -> Tensor:
    return torch.cat([w.detach().flatten() for w in weights])


@pytest.mark.parametrize(
    ("config", "std"), [(gw.Houlsby(), 1e-2), (gw.Houlsby(init_std=1e-3), 1e-3), (gw.Standard(), 1e-2)]
)
def test_houlsby_start_is_a_truncated_normal(config: gw.Bottleneck, std: float) -> None:
    module = build(config)
    for weight in (module.down, module.up):
        values = flat(weight)
        assert float(values.abs().max()) <= 2 * std
        assert float(values.abs().max()) > 1.9 * std
        assert float(values.std()) == pytest.approx(0.8796 * std, rel=0.03)  # of a normal cut at two deviations
        assert abs(float(values.mean())) < 0.03 * std


def test_pfeiffer_start_is_normal() -> None:
    values = flat(*(build(gw.Pfeiffer(reduction_factor=2)).get_parameter(n) for n in ("down", "up")))
    assert float(values.std()) == pytest.approx(0.02, rel=0.02)
    assert 0.01 < float((values.abs() > 0.0392).double().mean()) / 5 < 0.0102 * 1.1  # 5 % beyond 1.96 deviations


def test_xavier_start() -> None:
    module = build(gw.BapnaFirat(), kind="layer")
    bound = math.sqrt(6 / (256 + 64))
    for weight in (module.down, module.up):
        assert bound * 0.99 < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert torch.equal(module.norm_before.weight, torch.ones(256))
    assert not module.norm_before.bias.any()


def test_parallel_start() -> None:
    module = build(gw.Parallel())
    bound = 1 / math.sqrt(256)  # kaiming_uniform with a = √5
    assert bound * 0.99 < float(module.down.abs().max()) <= bound
    assert float(module.down.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not module.up.any()


@pytest.mark.parametrize("skip", ["scalar", "diagonal", "low_rank", "dense"])
def test_biases_and_skips_start_at_zero_and_scales_at_one(skip: str) -> None:
    module = build(gw.Bottleneck(skip=skip, scale="channel", gate=True))
    assert not any(w.any() for w in (module.down_bias, module.up_bias, module.skip, module.gate_bias))
    assert torch.equal(module.scale, torch.ones(256))
    assert torch.equal(build(gw.Parallel(scale="learned")).scale, torch.ones(1))
    shapes = {"scalar": (1,), "diagonal": (256,), "low_rank": (256, 4), "dense": (256, 256)}
    assert module.skip.shape == shapes[skip]


@pytest.mark.parametrize("method", gw.methods())
def test_init_zero_keeps_the_methods_own_down_projection(method: str) -> None:
    preset = gw.methods()[method]
    if not issubclass(preset, gw.Bottleneck):
        pytest.skip(f"{method} is no bottleneck")
    kind = preset().sites[0]
    torch.manual_seed(3)
    own = build(preset(), kind=kind)
    torch.manual_seed(3)
    zero = build(preset(init="zero"), kind=kind)
    assert torch.equal(own.down_weight(), zero.down_weight())
    assert own.down_weight().any()
    assert not zero.up_weight().any()


def test_two_adapters_differ_and_the_seed_decides() -> None:
    torch.manual_seed(1)
    first, second = build(gw.Pfeiffer()), build(gw.Pfeiffer())
    torch.manual_seed(1)
    again = build(gw.Pfeiffer())
    assert not torch.equal(first.down, second.down)
    assert torch.equal(first.down, again.down)
    assert torch.equal(first.up, again.up)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_weights_have_the_dtype_asked_for_and_compute_in_that_of_the_read(dtype: str) -> None:
    config = gw.Bottleneck(dtype=dtype, norm_before=True, norm_after=True, skip="dense", scale="channel", gate=True)
    module = build(config, width=16)
    assert {p.dtype for p in module.parameters()} == {getattr(torch, dtype)}
    for read in (torch.float32, torch.float64, torch.bfloat16):
        assert module(torch.randn(2, 3, 16, dtype=read), NoPadding()).dtype is read


# -- randomness --------------------------------------------------------------------------------------------------------


def learning(config: gw.Bottleneck) -> BottleneckModule:
    module = build(config, width=16)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p))
    module.trainable = True
    return module.train()


@pytest.mark.parametrize("skip", [None, "dense", "low_rank"])
def test_dropout_is_on_the_features(skip: str | None) -> None:
    config = gw.Bottleneck(bottleneck_size=6, dropout=0.25, skip=skip, dtype="float64")
    module = learning(config)
    read = torch.randn(2, 5, 16, dtype=torch.float64)
    masks: list[Tensor] = []

    def dropped(values: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
        masks.append((torch.rand(values.shape) > p).double() / (1 - p))
        return values * masks[-1]

    with mock.patch.object(nn.functional, "dropout", dropped):
        actual = module(read, NoPadding())
    (mask,) = masks
    features = torch.relu(read @ module.down.T + module.down_bias)
    expected = (features * mask[..., :6]) @ module.up.T + module.up_bias
    if skip == "dense":
        expected = expected + read @ module.skip.T
    if skip == "low_rank":
        expected = expected + (read @ module.skip_down.T * mask[..., 6:]) @ module.skip.T
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("gate", [False, True])
def test_stochastic_depth_leaves_whole_rows_out(gate: bool) -> None:
    config = gw.Bottleneck(stochastic_depth=0.4, gate=gate, dtype="float64")
    module = learning(config)
    read = torch.randn(400, 3, 16, dtype=torch.float64)
    actual, whole = module(read, NoPadding()), formula.bottleneck(config, module, read)
    kept = actual.flatten(1).abs().sum(1) > 0
    assert 0.5 < float(kept.double().mean()) < 0.7
    torch.testing.assert_close(actual[kept], whole[kept] / 0.6)


@pytest.mark.parametrize(("learns", "training"), [(False, True), (True, False), (False, False)])
def test_randomness_is_off_unless_learning_in_training_mode(learns: bool, training: bool) -> None:
    config = gw.Bottleneck(dropout=0.5, stochastic_depth=0.5, dtype="float64")
    module = learning(config)
    module.trainable = learns
    module.train(training)
    read = torch.randn(4, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(module(read, NoPadding()), formula.bottleneck(config, module, read))


# -- what the bank asks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "banked", "foldable"),
    [
        ({}, True, True),
        ({"skip": "low_rank"}, True, True),
        ({"scale": "channel"}, True, True),
        ({"norm_before": True}, True, False),
        ({"gate": True}, True, False),
        ({"norm_after": True}, False, False),
        ({"skip": "dense"}, False, False),
        ({"skip": "diagonal"}, False, False),
        ({"skip": "scalar"}, False, False),
    ],
)
def test_which_options_can_be_banked_and_folded(options: dict[str, Any], banked: bool, foldable: bool) -> None:
    module = build(gw.Bottleneck(**options))
    assert (module.banked, module.foldable) == (banked, foldable)


@pytest.mark.parametrize("skip", [None, "low_rank"])
@pytest.mark.parametrize("scale", [1.0, 0.3, "learned", "channel"])
@pytest.mark.parametrize("up_bias", [True, False])
def test_features_and_readout_make_the_output(skip: str | None, scale: float | str, up_bias: bool) -> None:
    module = learning(gw.Bottleneck(skip=skip, scale=scale, up_bias=up_bias, dtype="float64"))
    read = torch.randn(2, 3, 16, dtype=torch.float64)
    up, constant = module.readout()
    expected = module.features(read) @ up.T + (0 if constant is None else constant)
    torch.testing.assert_close(module(read, NoPadding()), expected)
    assert sum(s.down.shape[0] for s in module.segments()) == up.shape[1]
