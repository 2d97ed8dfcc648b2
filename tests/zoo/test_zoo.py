"""The zoo itself: every model builds, runs, is finite and deterministic, and its published form names real modules."""

from __future__ import annotations

import pytest
import torch

from tests.zoo.models import build, build_or_skip, clone_inputs, main_output, names


@pytest.mark.parametrize("name", names())
def test_builds_and_runs(name: str) -> None:
    zoo = build_or_skip(name)
    assert not zoo.model.training
    with torch.no_grad():
        output = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    assert torch.isfinite(output).all()
    assert output.float().std() > 1e-3


@pytest.mark.parametrize("name", names())
def test_is_deterministic(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second, other = build_or_skip(name), build(name), build(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    parameters = dict(second.model.named_parameters())
    for key, value in first.model.named_parameters():
        assert torch.equal(value, parameters[key]), key
    with torch.no_grad():
        outputs = [main_output(zoo.model(**clone_inputs(first.inputs))) for zoo in (first, second, other)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", names())
def test_runs_in_double_precision(name: str) -> None:
    zoo = build_or_skip(name, dtype=torch.float64)
    with torch.no_grad():
        output = main_output(zoo.model(**clone_inputs(zoo.inputs)))
    assert output.dtype == torch.float64
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", names())
def test_stacks_are_lists_of_modules(name: str) -> None:
    zoo = build_or_skip(name)
    for path, (layers, kinds) in zoo.expected.stacks.items():
        stack = zoo.model.get_submodule(path)
        assert isinstance(stack, torch.nn.ModuleList)
        assert len(stack) in (layers, 1)  # 1: ALBERT's shared layer
        assert kinds
