"""Self-modulation against its formula written out in float64, its start, its inputs, its statistics, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw

LATENT, CHANNELS = 5, 6
SHAPES = {
    "batch 1d": (lambda: nn.BatchNorm1d(6), (7, 6)),
    "batch 1d over positions": (lambda: nn.BatchNorm1d(6), (7, 6, 3)),
    "batch 2d": (lambda: nn.BatchNorm2d(6, eps=1e-3), (7, 6, 3, 4)),
    "layer": (lambda: nn.LayerNorm(6), (7, 3, 6)),
    "layer over an image": (lambda: nn.LayerNorm((6, 3, 4)), (7, 6, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 6), (7, 6, 3, 4)),
    "instance": (lambda: nn.InstanceNorm2d(6), (7, 6, 3, 4)),
    "instance with weights": (lambda: nn.InstanceNorm1d(6, affine=True), (7, 6, 5)),
}


class One(nn.Module):
    """One norm, of values that are given beside the latent."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.norm(x)


class Small(nn.Module):
    """A generator of 4 × 4 images."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(LATENT, 24), nn.BatchNorm1d(24)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.norm2, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.dense(z.flatten(1)))).view(-1, 6, 2, 2)
        return torch.tanh(self.last(torch.relu(self.norm2(self.up(h)))))


def stir(*modules: nn.Module) -> None:
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p.add_(torch.randn_like(p), alpha=0.5)


def attached(norm: nn.Module, **options: Any) -> tuple[One, gw.Adapters]:
    """A norm with weights and statistics as after a training, in float64, and an adapter away from its start."""
    model = One(norm).double()
    stir(model)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.add_(torch.rand_like(buffer))
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT, dtype="float64", **options))
    stir(*adapters.norms_of("a").values(), *([adapters.shared_of("a")] if "classes" in options else []))
    return model, adapters


def standardised(norm: nn.Module, x: Tensor, training: bool) -> Tensor:
    """What the norm computes before its γ and β, in numbers."""
    if isinstance(norm, nn.LayerNorm):
        over: tuple[int, ...] = tuple(range(-len(norm.normalized_shape), 0))
    elif isinstance(norm, nn.GroupNorm):
        grouped = x.reshape(len(x), norm.num_groups, -1)
        mean, var = grouped.mean(-1, keepdim=True), grouped.var(-1, keepdim=True, unbiased=False)
        return ((grouped - mean) / (var + norm.eps).sqrt()).view(x.shape)
    elif isinstance(norm, nn.modules.instancenorm._InstanceNorm):
        over = tuple(range(2, x.dim()))
    elif training:
        over = (0, *range(2, x.dim()))
    else:
        shape = (1, -1, *(1,) * (x.dim() - 2))
        return (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    mean, var = x.mean(over, keepdim=True), x.var(over, keepdim=True, unbiased=False)
    return (x - mean) / (var + norm.eps).sqrt()


def modulated(made: Any, z: Tensor, standard: Tensor, channels_last: bool) -> Tensor:
    """The paper's formula, sample by sample."""
    rows = []
    for latent, x in zip(z, standard, strict=True):
        h = latent
        if made.hidden is not None:
            h = (made.hidden.weight @ latent + made.hidden.bias).clamp(min=0)
        gamma, beta = (layer.weight @ h + layer.bias for layer in (made.gamma, made.beta))
        shape = (-1,) if channels_last else (-1, *(1,) * (x.dim() - 1))
        rows.append(x * gamma.view(shape) + beta.view(shape))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("hidden", [4, 0])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_its_formula(kind: str, hidden: int, training: bool) -> None:
    make, shape = SHAPES[kind]
    model, adapters = attached(make(), hidden_size=hidden)
    z, x = torch.randn(7, LATENT).double(), torch.randn(shape).double() * 3 + 1
    adapters.train_only("a")
    expected = modulated(
        adapters.norms_of("a")["norm"],
        z,
        standardised(model.norm, x, training),
        isinstance(model.norm, nn.LayerNorm) and x.dim() == 3,
    )
    model.train(training)
    torch.testing.assert_close(model(z, x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(x=x, z=z), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("soft", [False, True])
def test_with_a_class_it_is_its_formula(soft: bool) -> None:
    model, adapters = attached(nn.BatchNorm2d(6), classes=3, label="y")
    z, x, y = torch.randn(4, LATENT).double(), torch.randn(4, 6, 2, 2).double(), torch.tensor([2, 0, 1, 2])
    tables = adapters.shared_of("a")
    enriched = torch.stack([row + tables.added[c] + row * tables.scaling[c] for row, c in zip(z, y, strict=True)])
    expected = modulated(adapters.norms_of("a")["norm"], enriched, standardised(model.norm.eval(), x, False), False)
    model.eval()
    adapters.active = "a"
    given = nn.functional.one_hot(y, 3).double() if soft else y
    torch.testing.assert_close(model(z, x, given), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(model(z, x, given), model(z, x, given.flip(0)))


def test_the_number_of_weights() -> None:
    adapters = gw.attach(Small(), sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    adapters.add("y", gw.SelfModulation(latent_size=LATENT, classes=10, label="z"))
    rows = {row.name: row.weights for row in adapters.summary().rows}
    assert rows["a"] == sum(32 * (LATENT + 1) + 2 * 33 * channels for channels in (24, 4))
    assert rows["y"] == rows["a"] + 2 * 10 * LATENT


# -- how it starts -----------------------------------------------------------------------------------------------------


def test_the_published_start_is_near_the_norm_without_its_weights() -> None:
    model = Small().eval()
    stir(model)
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    adapters.add("exact", gw.SelfModulation(latent_size=LATENT, init_std=0))
    made = adapters.norms_of("a")["norm"]
    for layer, bias in ((made.hidden, 0.0), (made.gamma, 1.0), (made.beta, 0.0)):
        assert torch.equal(layer.bias, torch.full_like(layer.bias, bias))
        assert 0.015 < float(layer.weight.std()) < 0.025
    z = torch.randn(3, LATENT)
    with torch.no_grad(), adapters.using("exact"):
        near = model(z)
    bare = copy.deepcopy(model)
    gw.of(bare).detach()
    for norm in (bare.norm, bare.norm2):
        norm.weight = norm.bias = None
    with torch.no_grad():
        assert torch.equal(near, bare(z))


def test_the_start_at_zero_is_the_base_also_in_training() -> None:
    model = Small()
    stir(model)
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT, init="zero"))
    twin = copy.deepcopy(model)
    gw.of(twin).detach()
    adapters.train_only("a")
    z = torch.randn(6, LATENT)
    assert torch.equal(model(z), twin(z))
    model(z).square().sum().backward()
    made = adapters.norms_of("a")["norm"]
    assert made.gamma.weight.grad.any() and made.beta.bias.grad.any()


# -- what it is given --------------------------------------------------------------------------------------------------


def test_gamma_and_beta_differ_by_sample() -> None:
    _, adapters = attached(nn.BatchNorm1d(6))
    z = torch.randn(2, LATENT).double()
    (gamma, beta) = adapters.norms_of("a")["norm"].modulation(z)
    assert gamma.shape == beta.shape == (2, CHANNELS)
    assert not torch.allclose(gamma[0], gamma[1]) and not torch.allclose(beta[0], beta[1])


def test_a_latent_with_dimensions_of_one_behind() -> None:
    model = Small().eval()
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    stir(*adapters.norms_of("a").values())
    adapters.active = "a"
    z = torch.randn(3, LATENT)
    assert torch.equal(model(z[:, :, None, None]), model(z))


def test_every_row_is_given_its_own_latent() -> None:
    model = Small().eval()
    adapters = gw.attach(model, sites=())
    for name in ("a", "b"):
        adapters.add(name, gw.SelfModulation(latent_size=LATENT))
        stir(*adapters.norms_of(name).values())
    z = torch.randn(5, LATENT)
    with torch.no_grad():
        alone = {}
        for name in ("a", "b", None):
            with adapters.using(name):
                alone[name] = torch.cat([model(row[None]) for row in z])
        rows = ["b", None, "a", "b", "a"]
        with adapters.using(gw.MixedBatch(rows)):
            mixed = model(z)
        for n, name in enumerate(rows):
            torch.testing.assert_close(mixed[n], alone[name][n])
        with adapters.using(gw.Stack("a", "b")):  # the last wins
            torch.testing.assert_close(model(z), alone["b"])


def test_a_norm_that_sees_several_rows_for_each_of_the_batch() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(6)

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return self.norm(x.flatten(0, 1)).view(x.shape)

    model = Windows().eval()
    adapters = gw.attach(model, sites=())
    for name in ("a", "b"):
        adapters.add(name, gw.SelfModulation(latent_size=LATENT))
        stir(*adapters.norms_of(name).values())
    z, x = torch.randn(3, LATENT), torch.randn(3, 4, 6)
    with torch.no_grad():
        with adapters.using("a"):
            expected = torch.cat(
                [torch.cat([model(z[i : i + 1], x[i : i + 1, j : j + 1]) for j in range(4)], 1) for i in range(3)]
            )
            torch.testing.assert_close(model(z, x), expected)
        with adapters.using(gw.MixedBatch(["b", "a", "b"])):
            mixed = model(z, x)
    torch.testing.assert_close(mixed[1], expected[1])
    assert not torch.allclose(mixed[0], expected[0])


def test_a_generator_made_of_a_sequential() -> None:
    model = nn.Sequential(nn.Linear(LATENT, 6), nn.BatchNorm1d(6), nn.ReLU())
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    assert list(adapters.norms_of("a")) == ["1"]
    adapters.train_only("a")
    assert model(torch.randn(4, LATENT)).shape == (4, 6)


# -- statistics, and what learns ---------------------------------------------------------------------------------------


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: b.clone() for name, b in module.named_buffers()}


def test_its_statistics_are_its_own_and_move_while_it_learns(tmp_path: Path) -> None:
    model = Small().train()
    model(torch.randn(9, LATENT) * 2 + 1)
    adapters = gw.attach(model, sites=())
    base = buffers(model)
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    adapters.add("b", gw.SelfModulation(latent_size=LATENT))
    mine = {name: adapters.norms_of(name)["norm"].standardise for name in ("a", "b")}
    assert torch.equal(mine["a"].running_mean, base["norm.running_mean"])
    adapters.train_only("a")
    model.train()
    model(torch.randn(9, LATENT))
    moved = buffers(mine["a"])
    assert not torch.equal(moved["running_mean"], base["norm.running_mean"])
    for name, buffer in base.items():
        assert torch.equal(buffer, model.get_buffer(name)), name
    with adapters.using("b"):  # in training too one that does not learn is a fixed function
        x = torch.randn(9, LATENT)
        assert torch.equal(model(x)[:4], model(x[:4]))
    assert torch.equal(mine["b"].running_mean, base["norm.running_mean"])
    adapters.train_only("b")  # without another train()
    model(torch.randn(9, LATENT))
    assert not torch.equal(mine["b"].running_mean, base["norm.running_mean"])
    assert torch.equal(mine["a"].running_mean, moved["running_mean"])
    adapters.save("a", tmp_path / "a")
    adapters.load(tmp_path / "a", "again")
    for name, buffer in buffers(adapters.norms_of("again")["norm"]).items():
        assert torch.equal(buffer, adapters.norms_of("a")["norm"].get_buffer(name)), name


def test_the_whole_generator_learns_with_it() -> None:
    model = Small().train()
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    adapters.train_only("a", base="trained")
    model(torch.randn(9, LATENT)).square().sum().backward()
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert without == {"norm.weight", "norm.bias", "norm2.weight", "norm2.bias"}  # γ and β come from elsewhere


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_a_copied_generator(copied: Callable[[nn.Module], nn.Module]) -> None:
    model = Small().eval()
    adapters = gw.attach(model, sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    stir(*adapters.norms_of("a").values())
    adapters.active = "a"
    z = torch.randn(3, LATENT)
    other = copied(model)
    assert torch.equal(other(z), model(z))
    stir(*gw.of(other).norms_of("a").values())
    assert not torch.equal(other(z), model(z))


def test_another_generator_is_told_by_its_weights(tmp_path: Path) -> None:
    adapters = gw.attach(Small(), sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT))
    adapters.save("a", tmp_path / "a")
    other = gw.attach(Small(), sites=())
    with pytest.raises(gw.CheckpointError, match="another revision of the base"):
        other.load(tmp_path / "a")
    assert other.load(tmp_path / "a", other_base=True) == "a"


def test_two_of_them_merge() -> None:
    model = Small().eval()
    adapters = gw.attach(model, sites=())
    for name in ("a", "b"):
        adapters.add(name, gw.SelfModulation(latent_size=LATENT, classes=3, label="z"))
        stir(*adapters.norms_of(name).values(), adapters.shared_of(name))
    adapters.merge("mean", ["a", "b"])
    for find in (lambda n: adapters.norms_of(n)["norm"].gamma.weight, lambda n: adapters.shared_of(n).added):
        torch.testing.assert_close(find("mean"), (find("a") + find("b")) / 2)
    with pytest.raises(gw.ConfigError, match=r"add up to 0\.5"):
        adapters.merge("half", {"a": 0.5})
    adapters.merge("moved", {"a": 0.5}, start="b")


# -- what is refused ---------------------------------------------------------------------------------------------------


class OddNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"latent": "noise"}, r"latent is 'noise'.*inputs: z, x, y.*latent="),
        ({"classes": 3, "label": "kind"}, "label is 'kind'"),
        ({"label": "y"}, "classes is 0"),
        ({"norms": "base"}, "'own'"),
        ({"init": "glorot"}, "'zero'"),
        ({"latent_size": 0}, "latent_size is 0"),
        ({"hidden_size": -1}, "hidden_size is -1"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    adapters = gw.attach(One(nn.BatchNorm1d(6)), sites=())
    with pytest.raises(gw.ConfigError, match=said):
        adapters.add("a", gw.SelfModulation(**options))
    assert adapters.names == ()


def test_a_norm_that_it_does_not_know() -> None:
    adapters = gw.attach(One(OddNorm()), sites=())
    with pytest.raises(gw.ConfigError, match="norm is a OddNorm"):
        adapters.add("a", gw.SelfModulation())


def test_a_latent_of_another_width() -> None:
    adapters = gw.attach(Small(), sites=())
    adapters.add("a", gw.SelfModulation(latent_size=LATENT + 1))
    adapters.active = "a"
    with pytest.raises(gw.CompositionError, match=r"'z' is \(2, 5\).*latents of 6 numbers"):
        adapters.model(torch.randn(2, LATENT))


def test_a_call_without_the_class() -> None:
    model, adapters = attached(nn.BatchNorm1d(6), classes=3, label="y")
    adapters.active = "a"
    with pytest.raises(gw.AttachError, match=r"'y'.*those are: z, x"):
        model(torch.randn(2, LATENT).double(), torch.randn(2, 6).double())


def test_made_norms_are_not_weighed() -> None:
    model = Small().eval()
    adapters = gw.attach(model, sites=())
    for name in ("a", "b"):
        adapters.add(name, gw.SelfModulation(latent_size=LATENT))
    with pytest.raises(gw.CompositionError, match='norms="base"'):
        adapters.active = gw.Average("a", "b")
    z = torch.randn(2, LATENT)
    plain = model(z)
    adapters.active = gw.Average("a", "b", norms="base")
    assert torch.equal(model(z), plain)


def test_a_generator_has_no_sites_and_needs_none() -> None:
    dense = nn.Sequential(nn.Linear(LATENT, 6), nn.BatchNorm1d(6), nn.ReLU())
    with pytest.raises(gw.SiteError, match=r"attach\(model, sites=\(\)\)"):
        gw.attach(dense, example_inputs=(torch.randn(2, LATENT),))
    adapters = gw.attach(Small(), sites=())
    assert adapters.sites.norms == ("norm", "norm2")
    assert "norm2" in str(adapters.sites)
    with pytest.raises(gw.SiteError, match="attached without any"):
        adapters.add("a", gw.Houlsby())
    with pytest.raises(gw.ConfigError, match="make norms only"):
        gw.attach(nn.Sequential(nn.Linear(2, 2)), sites=())
    some = gw.attach(Small(), sites=gw.SiteMap((), norms=["norm2"]))
    some.add("a", gw.SelfModulation(latent_size=LATENT))
    assert list(some.norms_of("a")) == ["norm2"]
    none = gw.attach(Small(), sites=gw.SiteMap(()))
    with pytest.raises(gw.SiteError, match="SelfModulation stands in for norms"):
        none.add("a", gw.SelfModulation(latent_size=LATENT))
