"""LoraHub: the sum is the authors' formula, and the search finds weights that are better than the mean's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import graftwork as gw
from tests.support.interpreter import close, sites_of, unsettle
from tests.zoo.models import build, clone_inputs, main_output


@pytest.fixture
def here() -> tuple[Any, gw.Adapters]:
    zoo = build("llama", torch.float64)
    adapters = gw.attach(zoo.model, sites=sites_of("llama"))
    for n, name in enumerate("abc"):
        adapters.add(name, gw.LoRA(rank=2, targets=["q_proj", "v_proj"], dtype="float64"))
        unsettle([*adapters.modules_of(name).values()], n)
    return zoo, adapters


def test_it_is_the_formula(here: tuple[Any, gw.Adapters]) -> None:
    """A = Σ w A_n and B = Σ w B_n, the loss that of the best point, every weight within its bound."""
    zoo, adapters = here
    seen: list[float] = []

    def loss() -> torch.Tensor:
        value = main_output(zoo.model(**clone_inputs(zoo.inputs))).square().mean()
        seen.append(float(value))
        return value

    found = adapters.lorahub("few", ["a", "b", "c"], loss, steps=12, bound=0.7, penalty=0.0)
    assert (found.evaluations, found.loss) == (len(seen), min(seen))
    assert len(seen) <= 12
    assert all(abs(weight) <= 0.7 for weight in found.weights.values())
    for key, module in adapters.modules_of("few").items():
        for part in ("down", "up"):
            of = {name: getattr(adapters.modules_of(name)[key], part) for name in "abc"}
            close(getattr(module, part), sum(found.weights[name] * of[name] for name in "abc"), 1e-12)
    assert "few = " in str(found)


def test_it_finds_the_adapter_that_made_the_answers(here: tuple[Any, gw.Adapters]) -> None:
    zoo, adapters = here
    with torch.no_grad(), adapters.using("b"):
        wanted = main_output(zoo.model(**clone_inputs(zoo.inputs)))

    def loss() -> torch.Tensor:
        return (main_output(zoo.model(**clone_inputs(zoo.inputs))) - wanted).square().mean()

    found = adapters.lorahub("few", ["a", "b", "c"], loss, steps=80, penalty=1e-6)
    assert max(found.weights, key=lambda name: abs(found.weights[name])) == "b"
    with torch.no_grad(), adapters.using(gw.Average("a", "b", "c")):
        assert found.loss < 0.2 * float(loss())
    assert adapters.active is None


def test_the_penalty_draws_the_weights_to_zero(here: tuple[Any, gw.Adapters]) -> None:
    _, adapters = here
    found = adapters.lorahub("few", ["a", "b"], lambda: 1.0, steps=60, penalty=10.0)
    assert max(map(abs, found.weights.values())) < 0.05


@pytest.mark.parametrize(
    ("of", "options", "says"),
    [
        (["a", "p"], {}, "'p' is no LoRA"),
        (["a", "d"], {}, "'d' is no LoRA"),
        (["a", "b"], {"steps": 0}, "steps is 0"),
        (["a", "b"], {"bound": 0.0}, "bound is 0.0"),
        (["a", "b"], {"penalty": float("nan")}, "penalty is nan"),
        (["a", "b"], {"loss": lambda: float("nan")}, "never a finite number"),
    ],
)
def test_what_cannot_be_is_refused(
    here: tuple[Any, gw.Adapters], of: list[str], options: dict[str, Any], says: str
) -> None:
    _, adapters = here
    adapters.add("p", gw.Pfeiffer())
    adapters.add("d", gw.DoRA(rank=2, targets=["q_proj", "v_proj"]))
    before = adapters.names
    with pytest.raises(gw.ConfigError, match=says):
        adapters.lorahub("few", of, **{"loss": lambda: 0.0, **options})
    assert adapters.names == before
