"""The record: single assignment, module calls and the slots that tensors pass them in."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from graftwork.sites.discovery.ops import operation_name
from tests.support.toy_models import record_of


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def ops_of(model: nn.Module, *args: torch.Tensor) -> list[str]:
    return [value.op for value in record_of(model, *args).values if value.op not in ("param", "input")]


def test_all_spellings_of_an_operation_have_one_name():
    def spell(x):
        y = x + 1
        y = torch.add(y, x)
        y = y.add(x)
        y += x
        y.add_(x)
        return 1 + y

    assert ops_of(Step(spell), torch.zeros(3)) == ["add"] * 6
    assert operation_name(torch.ops.aten.add.Tensor) == "add"
    assert operation_name(torch.Tensor.T.__get__) == "T"


def test_a_write_in_place_makes_a_new_value():
    def write(x):
        y = x * 2
        y.add_(1)
        return y

    record = record_of(Step(write), torch.zeros(3))
    product, total = record.values[-2:]
    assert (product.op, total.op) == ("mul", "add")
    assert total.inputs == (product.index,)
    assert record.calls[0].outputs[0].value == total.index


def test_a_write_through_a_view_reaches_the_whole():
    def write(x):
        y = x * 2
        y[:1].add_(x[:1])
        return y + 1

    record = record_of(Step(write), torch.zeros(3))
    written = next(v for v in record.values if v.op == "add")
    assert any(v.op == "alias" and written.index in v.inputs for v in record.values)


def test_the_value_before_a_write_stays_what_the_module_returned():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Step(lambda x: x * 2)

        def forward(self, x):
            y = self.inner(x)
            y += x
            return y

    record = record_of(Model(), torch.zeros(3))
    inner = next(call for call in record.calls if call.path == "inner")
    assert record.values[inner.outputs[0].value].op == "mul"
    assert record.values[record.calls[0].outputs[0].value].op == "add"


def test_calls_know_slots_order_and_nesting():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Step(lambda x, other, pair=None: (x + 1, {"deep": other + 1}))

        def forward(self, x):
            first, _ = self.inner(x, other=x * 2)
            return {"first": first, "second": self.inner(first, other=x, pair=(x,))[0]}

    record = record_of(Model(), torch.zeros(3))
    root, first, second = record.calls
    assert [(c.path, c.nth, c.parent, c.depth) for c in record.calls] == [
        ("", 0, None, 0),
        ("inner", 0, 0, 1),
        ("inner", 1, 0, 1),
    ]
    assert [(p.slot, p.reachable) for p in first.inputs] == [(0, True), ("other", True)]
    assert [(p.slot, p.reachable) for p in second.inputs] == [(0, True), ("other", True), (None, False)]
    assert [(p.slot, p.reachable) for p in first.outputs] == [(0, True), (None, False)]
    assert [p.slot for p in root.outputs] == ["first", "second"]
    assert root.entered < first.entered < first.left < second.entered < second.left < root.left
    assert record.is_below(2, 0) and not record.is_below(0, 0) and record.is_below(0, 0, strictly=False)


def test_a_call_that_raised_and_was_caught_is_closed():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad = Step(lambda x: 1 / 0)
            self.good = Step(lambda x: x + 1)

        def forward(self, x):
            try:
                return self.bad(x)
            except ZeroDivisionError:
                return self.good(x)

    record = record_of(Model(), torch.zeros(3))
    assert record.calls[0].outputs[0].value == record.values[-1].index
    assert record.calls[0].left > 0


def half_tanh(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) / 2.0


class Scripted(nn.Module):
    def forward(self, x):
        return SCRIPTED(x)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    SCRIPTED = torch.jit.script(half_tanh)


def test_what_torchscript_does_is_recorded():
    assert {"tanh", "truediv"} <= set(ops_of(Scripted(), torch.zeros(3)))


def test_parameters_and_inputs_have_names():
    record = record_of(nn.Linear(2, 3), torch.zeros(4, 2))
    assert {(v.op, v.name) for v in record.values if v.name} == {
        ("param", "weight"),
        ("param", "bias"),
        ("input", "[0]"),
    }
