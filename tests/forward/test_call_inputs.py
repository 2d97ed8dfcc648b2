"""What is known of a module's forward: its parameters as it is called."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from graftwork.forward.call_inputs import parameter_names, parameters_of


class Odd(nn.Module):
    def forward(this, x: Tensor, *, scale: float = 1.0) -> Tensor:
        return x * scale


class Static(nn.Module):
    @staticmethod
    def forward(self: Tensor, other: Tensor) -> Tensor:  # noqa: PLW0211
        return self + other


def test_the_module_itself_is_left_out_whatever_it_is_called() -> None:
    assert parameter_names(Odd()) == ("x",)
    assert [p.name for p in parameters_of(Odd()).named] == ["x", "scale"]


def test_a_forward_that_takes_no_module_keeps_its_first_parameter() -> None:
    assert parameter_names(Static()) == ("self", "other")
    assert Static()(torch.ones(1), torch.ones(1)).item() == 2


def test_a_forward_that_something_was_put_around_is_read_through() -> None:
    module = Odd()
    module.forward = functools.update_wrapper(lambda *a, **k: None, module.forward)  # type: ignore[method-assign]
    assert parameter_names(module) == ("x",)
