"""Compacter, PHM and low rank: the starts, the two ways to compute, T5 by its formula, and sizes that do not divide."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods.compacter import KroneckerModule
from graftwork.methods.layers.kronecker import Projection, Rule
from tests.methods.test_bottleneck import NoPadding, place
from tests.support import formulas as formula
from tests.support.interpreter import close, unsettle
from tests.zoo.models import build as zoo_model
from tests.zoo.models import main_output

CONFIGS: dict[str, gw.Bottleneck] = {
    "compacter": gw.Compacter(bottleneck_size=8),
    "compacter++": gw.CompacterPlusPlus(bottleneck_size=8),
    "phm": gw.PHM(bottleneck_size=8),
    "low rank": gw.LowRank(bottleneck_size=8),
    "whole, shared": gw.Compacter(bottleneck_size=8, rank=None),
    "own rules, rank 2": gw.PHM(bottleneck_size=8, rank=2),
}


def module_of(config: gw.Bottleneck, width: int = 64) -> KroneckerModule:
    here = place(width=width)
    module = config.build(here, config.shared([here]))
    assert isinstance(module, KroneckerModule)
    return module


# -- T5, by the formula ------------------------------------------------------------------------------------------------


def branches(model: Any) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """Key and module of every branch that an adapter stands behind, and of its norm; cross-attention has none."""
    for stack in ("encoder", "decoder"):
        for n, block in enumerate(getattr(model, stack).block):
            first, last = block.layer[0], block.layer[-1]
            at = f"{stack}.block.{n}"
            yield f"{at}.attention", first.SelfAttention, f"{at}.layer.0.layer_norm", first.layer_norm
            norm = f"{at}.layer.{len(block.layer) - 1}.layer_norm"
            yield f"{at}.feed_forward", last.DenseReluDense, norm, last.layer_norm


def by_the_formula(plain: nn.Module, adapters: gw.Adapters, inputs: dict[str, Any]) -> Tensor:
    """T5 with ``y + A(y)`` behind self-attention and feed-forward, and the adapter's norms written into a copy of it."""
    model: Any = copy.deepcopy(plain)
    modules, config = adapters.modules_of("a"), adapters.config("a")
    assert isinstance(config, gw.Bottleneck)
    for path, norm in adapters.norms_of("a").items():
        model.get_submodule(path).load_state_dict(norm.state_dict())

    def added(key: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            y = output[0] if isinstance(output, tuple) else output
            y = y + formula.bottleneck(config, modules[key], y)
            return (y, *output[1:]) if isinstance(output, tuple) else y

        return hook

    for key, branch, _, _ in branches(model):
        if key in modules:
            branch.register_forward_hook(added(key))
    return main_output(model(**inputs))


@pytest.mark.parametrize("norms", ["base", "own"])
@pytest.mark.parametrize("name", CONFIGS)
def test_t5_equals_the_formula(name: str, norms: str) -> None:
    zoo = zoo_model("t5", torch.float64)
    plain = copy.deepcopy(zoo.model)
    adapters = gw.attach(zoo.model)
    config = gw.config_from_dict({**CONFIGS[name].to_dict(), "dtype": "float64", "norms": norms})
    adapters.add("a", config)
    shared = adapters.shared_of("a")
    owners = [*adapters.modules_of("a").values(), *adapters.norms_of("a").values(), *([shared] if shared else [])]
    unsettle(owners, 5)
    kinds = {"feed_forward"} if name == "compacter++" else {"attention", "feed_forward"}
    assert set(adapters.modules_of("a")) == {key for key, *_ in branches(plain) if key.rpartition(".")[2] in kinds}
    adapters.train_only("a")
    actual = main_output(zoo.model(**zoo.inputs))
    expected = by_the_formula(plain, adapters, dict(zoo.inputs))
    close(actual, expected)
    assert float((actual - main_output(plain(**zoo.inputs))).abs().max()) > 1e-3


# -- starts ------------------------------------------------------------------------------------------------------------


def test_the_shared_rule_starts_as_in_the_authors_code() -> None:
    torch.manual_seed(0)
    rule = gw.Compacter(n=16, bottleneck_size=16).shared([])
    assert isinstance(rule, Rule)
    assert rule.matrices.shape == (16, 16, 16)
    assert float(rule.matrices.detach().std()) == pytest.approx(1e-4, rel=0.05)


@pytest.mark.parametrize("config", [gw.PHM(n=16, bottleneck_size=64), gw.PHM(n=16, bottleneck_size=64, rank=1)])
def test_rules_of_their_own_start_wider(config: gw.PHM) -> None:
    torch.manual_seed(0)
    module = module_of(config)
    assert module.shared is None
    for projection in (module.down, module.up):
        assert float(projection.rule.detach().std()) == pytest.approx(1e-2, rel=0.05)


def test_factors_start_by_glorot_slice_by_slice_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    module = module_of(gw.Compacter(bottleneck_size=128), width=1024)
    for factor, rows, columns in ((module.down.left, 256, 1), (module.down.right, 1, 32), (module.up.right, 1, 256)):
        bound = math.sqrt(2) * math.sqrt(6 / (rows + columns))
        for one in factor.detach():
            assert one.shape == (rows, columns)
            assert bound * 0.8 < float(one.abs().max()) <= bound
    whole = module_of(gw.PHM(bottleneck_size=32), width=1024).down.left.detach()
    assert math.sqrt(2 * 6 / (256 + 8)) * 0.95 < float(whole.abs().max()) <= math.sqrt(2 * 6 / (256 + 8))
    assert not module.down_bias.any()
    assert not module.up_bias.any()


# -- two ways to compute one thing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("around", [True, False])
def test_around_the_matrix_and_through_it_are_the_same(config: gw.Bottleneck, around: bool) -> None:
    module = module_of(config).double()
    unsettle([module, *([] if module.shared is None else [module.shared.double()])], 3)
    for projection in (module.down, module.up):
        projection.around = around
    read = torch.randn(2, 3, 64, dtype=torch.float64)
    (segment,), (up, constant) = module.segments(), module.readout()
    expected = nn.functional.gelu(read @ segment.down.T + segment.bias, approximate="tanh") @ up.T + constant
    close(module(read, NoPadding()), expected)
    close(module.features(read), nn.functional.gelu(read @ segment.down.T + segment.bias, approximate="tanh"))


def test_the_matrix_is_made_only_where_that_is_cheaper() -> None:
    def around(n: int, rank: int | None, size: int = 24) -> tuple[bool, bool]:
        pair = [Projection(i, o, n, rank, own_rule=True, dtype=torch.float32) for i, o in ((768, size), (size, 768))]
        return pair[0].around, pair[1].around

    assert around(4, 1) == around(1, 1) == (True, True)
    assert around(12, 1) == around(4, 2) == (True, False)
    assert around(12, None) == (False, False)
    assert around(1, 24) == (False, False)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [gw.Compacter, gw.CompacterPlusPlus, gw.PHM])
@pytest.mark.parametrize(
    ("options", "width", "said"),
    [
        ({"n": 5}, 64, ("n is 5", "model's width 64", "encoder.layer.0.feed_forward", "64 and 24", "1, 2, 4, 8")),
        ({"n": 16}, 64, ("n is 16", "bottleneck's width 24", "64 and 24", "1, 2, 4, 8", "a multiple of 16")),
        ({"reduction_factor": 32}, 64, ("n is 4", "bottleneck's width 2", "64 and 2", "1, 2,", "a multiple of 4")),
        ({"n": 0}, 64, ("n is 0", "whole number of 1 or more")),
        ({"n": 2.5}, 64, ("n is 2.5", "whole number")),
        ({"n": None}, 64, ("n is None", "whole number")),
        ({"n": True}, 64, ("n is True", "whole number")),
        ({"rank": 0}, 64, ("rank is 0", "whole number of 1 or more")),
        ({"rank": "1"}, 64, ("rank is '1'", "whole number")),
    ],
)
def test_what_does_not_fit_is_refused(preset: Any, options: dict[str, Any], width: int, said: tuple[str, ...]) -> None:
    with pytest.raises(gw.ConfigError) as error:
        module_of(preset(**options), width)
    for text in (preset.__name__, *said):
        assert text in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"), [({"rank": None}, "rank is None"), ({"init_std": 0.1}, "init_std is 0.1"), ({"n": 4}, "'n'")]
)
def test_low_rank_refuses_what_means_nothing_to_it(options: dict[str, Any], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=said):
        gw.LowRank(**options)


def test_a_misfit_leaves_the_model_as_it_was() -> None:
    model = zoo_model("bert").model
    adapters = gw.attach(model)
    with pytest.raises(gw.ConfigError, match="n is 3"):
        adapters.add("a", gw.Compacter(n=3))
    assert adapters.names == ()
    assert not [name for name in model.state_dict() if "graftwork" in name]


def test_a_module_is_not_made_without_its_rule() -> None:
    with pytest.raises(gw.ConfigError, match=r"Compacter: build\(place, None\) lacks the rule"):
        gw.Compacter().build(place())
