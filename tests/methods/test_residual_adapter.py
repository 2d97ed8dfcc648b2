"""Residual adapters: the formula in both modes, weights counted, whose statistics move, and networks of a user's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods import Place
from graftwork.methods.layers.norms import run_norm
from graftwork.sites import sites_from_paths
from tests.methods.test_bottleneck import NoPadding
from tests.sites.test_convolutions import library
from tests.support.interpreter import close, unsettle
from tests.zoo.models import build, main_output

MODES = ("parallel", "series")


def batch_norm(norm: Any, y: Tensor, *, training: bool = False) -> Tensor:
    """(y − mean) / √(variance + eps) · weight + bias: of the batch in training, else those that are kept."""
    mean = y.mean((0, 2, 3)) if training else norm.running_mean
    variance = y.var((0, 2, 3), unbiased=False) if training else norm.running_var
    shape = (1, -1, 1, 1)
    scaled = (y - mean.view(shape)) / torch.sqrt(variance.view(shape) + norm.eps)
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


def pointwise(weight: Tensor, x: Tensor, stride: int = 1) -> Tensor:
    """Every position's channels by one matrix."""
    return torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x[:, :, ::stride, ::stride])


def added(mode: str, module: Any, x: Tensor, y: Tensor, stride: int, *, training: bool = False) -> Tensor:
    """α ∗ x, or α ∗ bn(y)."""
    if mode == "parallel":
        return pointwise(module.weight, x, stride)
    return pointwise(module.weight, batch_norm(module.norm, y, training=training))


def by_the_formula(plain: nn.Module, adapters: gw.Adapters, name: str, inputs: dict[str, Any]) -> Tensor:
    """A copy of the plain network with the addition behind its convolutions and the adapter's norms in place of its own."""
    model: Any = copy.deepcopy(plain)
    config = adapters.config(name)
    assert isinstance(config, gw.ResidualAdapter)
    for path, norm in adapters.norms_of(name).items():
        model.get_submodule(path).load_state_dict(norm.state_dict())
    for key, module in adapters.modules_of(name).items():

        def hook(conv: Any, args: Any, y: Tensor, module: nn.Module = module) -> Tensor:
            return y + added(config.mode, module, args[0], y, conv.stride[0])

        model.get_submodule(adapters.sites[key].output.module).register_forward_hook(hook)
    return main_output(model(**inputs))


def attached(mode: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, gw.Adapters, dict[str, Any]]:
    zoo = build("resnet", dtype)
    adapters = gw.attach(zoo.model)
    name = str(dtype).removeprefix("torch.")
    for seed, adapter in enumerate("ab"):
        adapters.add(adapter, gw.ResidualAdapter(mode=mode, dtype=name, **options))
        unsettle([*adapters.modules_of(adapter).values(), *adapters.norms_of(adapter).values()], seed)
    return zoo.model, adapters, zoo.inputs


@pytest.mark.parametrize("norms", ["own", "base"])
@pytest.mark.parametrize("mode", MODES)
def test_resnet_equals_the_formula(mode: str, norms: str) -> None:
    plain = build("resnet", torch.float64).model
    model, adapters, inputs = attached(mode, norms=norms)
    adapters.active = "a"
    actual = main_output(model(**inputs))
    close(actual, by_the_formula(plain, adapters, "a", inputs))
    assert float((actual - main_output(plain(**inputs))).detach().abs().max()) > 1e-3
    assert len(adapters.modules_of("a")) == 9
    assert len(adapters.norms_of("a")) == (10 if norms == "own" else 0)


@pytest.mark.parametrize("mode", MODES)
def test_in_training_the_series_takes_the_batchs_statistics(mode: str) -> None:
    torch.manual_seed(0)
    (here,) = sites_from_paths(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)), {"convolution": "0"})
    module: Any = gw.ResidualAdapter(mode=mode, dtype="float64").build(Place(here, layers=1))
    unsettle([module], 4)
    x, y = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.randn(5, 4, 4, 4, dtype=torch.float64) + 2
    read = x if mode == "parallel" else y
    close(module(read, NoPadding()), added(mode, module, x, y, 2, training=True))
    close(module.eval()(read, NoPadding()), added(mode, module, x, y, 2))


def test_starts() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 256, 3))
    adapters = gw.attach(model)
    adapters.add("he", gw.ResidualAdapter())
    adapters.add("zero", gw.ResidualAdapter(init="zero"))
    adapters.add("behind", gw.ResidualAdapter(stem=False))
    weights = [p for m in adapters.modules_of("he").values() for p in m.parameters()]
    assert [w.shape for w in weights] == [(64, 3, 1, 1), (256, 64, 1, 1)]
    for weight in weights:
        assert float(weight.std()) == pytest.approx((2 / len(weight)) ** 0.5, rel=0.15)
    assert not any(p.any() for m in adapters.modules_of("zero").values() for p in m.parameters())
    assert len(adapters.modules_of("behind")) == 1


# -- the authors' network ----------------------------------------------------------------------------------------------


class Unit(nn.Module):
    """A 3×3 convolution and its norm."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width_in, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Block26(nn.Module):
    """Two units, the shortcut averaged and filled with zeros where the image is halved."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.halves = width != width_in
        self.first, self.second = Unit(width_in, width, 1 + self.halves), Unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        if self.halves:
            x = nn.functional.avg_pool2d(x, 2)
            x = torch.cat((x, x * 0), 1)
        return torch.relu(y + x)


def resnet26() -> nn.Sequential:
    """ResNet-26 of both papers for images of 64 × 64, without its linear layer."""
    blocks = [Block26(max(32, w // 2) if n == 0 else w, w) for w in (64, 128, 256) for n in range(4)]
    return nn.Sequential(Unit(3, 32), *blocks, nn.BatchNorm2d(256), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize(
    ("mode", "norms", "weights"),
    [
        ("parallel", "base", 645_216),
        ("parallel", "own", 652_960),
        ("series", "base", 696_384),
        ("series", "own", 704_128),
    ],
)
def test_weights_of_resnet_26(mode: str, norms: str, weights: int) -> None:
    """In parallel a ninth of the 3×3 weights; each of the 25 convolutions has one, the halved shortcuts none."""
    with torch.device("meta"):
        model = resnet26()
        adapters = gw.attach(model, example_inputs=(torch.zeros(2, 3, 64, 64),))
        adapters.add("a", gw.ResidualAdapter(mode=mode, norms=norms))
    assert len(adapters.modules_of("a")) == 25
    (row,) = adapters.summary().rows
    assert row.weights == weights
    adapters.train_only("a")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == weights
    if (mode, norms) == ("parallel", "base"):
        assert 9 * weights == sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))


# -- statistics --------------------------------------------------------------------------------------------------------


def statistics(adapters: gw.Adapters, name: str) -> dict[str, Tensor]:
    modules = {**adapters.modules_of(name), **adapters.norms_of(name)}
    return {f"{key}.{n}": b.clone() for key, m in modules.items() for n, b in m.named_buffers()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("mode", MODES)
def test_statistics_move_while_the_adapter_learns_and_else_stand_still(mode: str) -> None:
    model, adapters, inputs = attached(mode, torch.float32)
    base = {n: b.clone() for n, b in model.named_buffers() if "graftwork" not in n}
    a, b = statistics(adapters, "a"), statistics(adapters, "b")
    assert len(a) == 3 * (10 + (9 if mode == "series" else 0))
    adapters.train_only("b")
    model.train()
    with adapters.using("a"):  # a frozen one in a model that trains is the function that it is
        trained = main_output(model(**inputs))
    model.eval()
    with adapters.using("a"):
        assert torch.equal(main_output(model(**inputs)), trained)
    main_output(model(**inputs))
    assert same(statistics(adapters, "a"), a) and same(statistics(adapters, "b"), b)
    model.train()
    main_output(model(**inputs))
    moved = statistics(adapters, "b")
    assert all(not torch.equal(moved[key], b[key]) for key in b)
    assert {int(t) for key, t in moved.items() if key.endswith("tracked")} == {
        int(t) + 1 for key, t in b.items() if key.endswith("tracked")
    }
    assert same(statistics(adapters, "a"), a)
    assert same({n: t for n, t in model.named_buffers() if "graftwork" not in n}, base)
    adapters.train_only("b", active=gw.MixedBatch(["a", "b"]))
    model.train()
    main_output(model(**inputs))
    assert same(statistics(adapters, "a"), a)
    assert not same(statistics(adapters, "b"), moved)
    twin = copy.deepcopy(model)
    twin.train()
    before = statistics(gw.of(twin), "b")
    main_output(twin(**inputs))
    assert not same(statistics(gw.of(twin), "b"), before)
    assert same(statistics(adapters, "b"), before)


def test_a_part_that_the_user_put_to_sleep_stays_so() -> None:
    model, adapters, inputs = attached("series", torch.float32)
    adapters.train_only("a")
    model.train()
    model.encoder.stages[0].eval()
    before = statistics(adapters, "a")
    main_output(model(**inputs))
    for key, value in statistics(adapters, "a").items():
        assert torch.equal(value, before[key]) is key.startswith("encoder.stages.0"), key


@pytest.mark.parametrize("mode", MODES)
def test_saved_with_its_statistics(mode: str, tmp_path: Path) -> None:
    model, adapters, inputs = attached(mode, torch.float32)
    adapters.train_only("a")
    model.train()
    for _ in range(2):
        model(**inputs)
    adapters.save("a", tmp_path / "a")
    other = gw.attach(build("resnet").model)
    other.load(tmp_path / "a")
    assert same(statistics(other, "a"), statistics(adapters, "a"))
    adapters.active = other.active = "a"
    assert torch.equal(main_output(other.model.eval()(**inputs)), main_output(model.eval()(**inputs)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_statistics_keep_their_dtype_in_a_base_of_another(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, same_dtype = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    x = (torch.randn(4, 3, 5, 5) * 3 + 1).to(dtype)
    y = run_norm(norm, x)
    expected = same_dtype(x.float())
    assert y.dtype is dtype
    tolerance = 1e-6 if dtype is torch.float64 else 1e-2
    close(y.float(), expected, tolerance)
    for name, statistic in norm.named_buffers():
        assert statistic.dtype is dict(same_dtype.named_buffers())[name].dtype
        torch.testing.assert_close(statistic, dict(same_dtype.named_buffers())[name], rtol=1e-4, atol=1e-5)


# -- compositions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_compositions(mode: str) -> None:
    model, adapters, inputs = attached(mode)
    with pytest.raises(gw.CompositionError, match=r"weighs adapters that own different norms .* norms=\"base\""):
        adapters.active = gw.Average("a", "b")
    with pytest.raises(gw.CompositionError, match=r"Split gives out positions, but at .*convolution"):
        adapters.active = gw.Split("a", "b", splits=[1, 1])
    with torch.no_grad():
        outputs = {}
        for name, composition in (
            ("a", "a"),
            ("b", "b"),
            ("rows", gw.MixedBatch(["b", "a"])),
            ("half", gw.Average("a", "b", weights=[1, 0], norms="base", normalize=False)),
        ):
            with adapters.using(composition):
                outputs[name] = main_output(model(**inputs))
    close(outputs["rows"], torch.stack([outputs["b"][0], outputs["a"][1]]), 1e-10)
    alone = build("resnet", torch.float64)
    other = gw.attach(alone.model)
    other.add("a", gw.ResidualAdapter(mode=mode, dtype="float64", norms="base"))
    for key, module in other.modules_of("a").items():
        module.load_state_dict(adapters.modules_of("a")[key].state_dict())
    other.active = "a"
    close(outputs["half"], main_output(alone.model(**inputs)), 1e-10)


def test_dropout_is_on_while_it_learns() -> None:
    model, adapters, inputs = attached("parallel", torch.float32, dropout=0.5, norms="base")
    for learner, random in (("a", True), ("b", False)):
        adapters.train_only(learner)
        model.train()
        with adapters.using("a"), torch.no_grad():
            first, second = main_output(model(**inputs)), main_output(model(**inputs))
        assert torch.equal(first, second) is not random


# -- a user's own ------------------------------------------------------------------------------------------------------


class Own(nn.Module):
    """Convolutions of odd windows, one that pads by the image's size, and nothing added up."""

    def __init__(self, last: nn.Conv2d) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            last,
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Pads(nn.Conv2d):
    """Pads by the size of the image."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(input, [input.shape[-1] % 2 + 1, 1, 1, 1]))


@pytest.mark.filterwarnings("ignore:Using padding=")
@pytest.mark.parametrize("mode", MODES)
def test_a_network_that_adds_nothing_up(mode: str) -> None:
    torch.manual_seed(0)
    model = Own(nn.Conv2d(8, 8, 4, padding="same"))
    adapters = gw.attach(model)
    adapters.add("a", gw.ResidualAdapter(mode=mode))
    assert len(adapters.modules_of("a")) == 3
    adapters.train_only("a")
    before = {n: t.clone() for n, t in model.state_dict().items() if "graftwork" not in n}
    labels = torch.arange(12) % 3
    x = torch.randn(3, 1, 20, 20)[labels] + 0.1 * torch.randn(12, 1, 20, 20)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.3)
    model.train()
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert same({n: t for n, t in model.state_dict().items() if "graftwork" not in n}, before)


def test_parallel_needs_the_padding_and_series_does_not() -> None:
    adapters = gw.attach(Own(Pads(8, 8, 3)))
    with pytest.raises(
        gw.ConfigError, match=r"features\.2\.convolution does not say its convolution's margins.*mode='series'"
    ):
        adapters.add("a", gw.ResidualAdapter())
    adapters.add("a", gw.ResidualAdapter(mode="series"))
    assert len(adapters.modules_of("a")) == 3


@pytest.mark.parametrize(
    "option", [{"mode": "both"}, {"init": "glorot"}, {"dropout": 1}, {"stem": 1}, {"sites": "layer"}]
)
def test_refused(option: dict[str, Any]) -> None:
    with pytest.raises(gw.ConfigError, match=f"ResidualAdapter.*{next(iter(option))}"):
        gw.ResidualAdapter(**option)


@pytest.mark.parametrize("where", ["torchvision", "timm"])
def test_other_libraries(where: str) -> None:
    torch.manual_seed(0)
    model = (
        library("torchvision.models").resnet18() if where == "torchvision" else library("timm").create_model("resnet18")
    )
    adapters = gw.attach(model, example_inputs=(torch.zeros(2, 3, 64, 64),))
    adapters.add("a", gw.ResidualAdapter(init="zero"))
    assert (len(adapters.modules_of("a")), len(adapters.norms_of("a"))) == (17, 20)
    x = torch.randn(2, 3, 64, 64)
    model.eval()
    plain = model(x)
    adapters.active = "a"
    assert torch.equal(model(x), plain)
