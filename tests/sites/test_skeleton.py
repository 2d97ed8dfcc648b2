"""Tracing leaves everything as it was: the model, its hooks, torch's switches and functools' caches."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor

from graftwork.sites.discovery.assemble import assemble
from graftwork.sites.discovery.graph import Graph
from graftwork.sites.discovery.skeleton import clear_fake_caches, trace
from tests.support.toy_models import IDS, Model, record_of
from tests.zoo.models import build_or_skip


@pytest.mark.parametrize("fake", [True, False])
def test_the_model_is_untouched(fake):
    model = Model()
    model.register_buffer("count", torch.zeros(()))
    model.train()
    model.blocks[1].eval()
    model.embed.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    flags = {name: module.training for name, module in model.named_modules()}
    modules = {name: id(module) for name, module in model.named_modules()}
    record_of(model, fake=fake)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert {name: id(module) for name, module in model.named_modules()} == modules
    assert [p.requires_grad for p in model.parameters()] == [p is not model.embed.weight for p in model.parameters()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(isinstance(t, FakeTensor) for m in model.modules() for t in vars(m).values())
    assert all(p.grad is None for p in model.parameters())


def test_a_real_run_writes_no_buffer_of_the_model():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x + self.count

    model = Counter()
    record_of(model, torch.zeros(2), fake=False)
    assert model.count == 0


def test_hooks_of_the_user_are_not_run():
    model, seen = Model(), []
    handle = model.blocks[0].register_forward_hook(lambda *a: seen.append(a))
    record_of(model)
    assert not seen
    assert len(model.blocks[0]._forward_hooks) == 1
    handle.remove()


@pytest.mark.parametrize(
    "wrap", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.spectral_norm]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_reparametrised_weights(wrap):
    model = Model()
    model.blocks[0].mlp[0] = wrap(model.blocks[0].mlp[0])
    model(IDS)
    record_of(model)
    model(IDS)


def test_caches_that_hold_fake_tensors_are_cleared_and_no_others():
    @functools.cache
    def table(n: int) -> torch.Tensor:
        return torch.arange(n, dtype=torch.float32)

    @functools.cache
    def other(n: int) -> int:
        return n + 1

    class Rotary(nn.Module):
        def forward(self, x):
            return x + table(x.shape[-1])

    other(1)
    record_of(Rotary(), torch.zeros(2, 3))
    assert table.cache_info().currsize == 0
    assert other.cache_info().currsize == 1
    assert not isinstance(Rotary()(torch.zeros(2, 3)), FakeTensor)
    assert clear_fake_caches() == 0


def test_torch_s_switches_are_restored_after_an_error():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(ValueError, match="no"):
        trace(Fails(), (torch.zeros(1),), {})
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert torch.is_grad_enabled()
    assert not isinstance(torch.zeros(1), FakeTensor)


@pytest.mark.parametrize("known_inputs", [False, True])
def test_no_memory_is_taken_on_the_way(known_inputs):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.Linear(100_000, 100_000))
    assert len(record_of(model, torch.zeros(1, 100_000), known_inputs=known_inputs).calls) == 3


class Asks(nn.Module):
    """Looks at a number on its way: of its input, of a mask it makes of it, or of its own weights."""

    def __init__(self, about):
        super().__init__()
        self.model, self.about = Model(), about

    def forward(self, ids):
        mask = torch.ones(ids.shape)
        mask[ids == 3] = 0
        x = self.model(ids)
        if self.about == "overwritten":
            mask.copy_(x[..., 0])
        asked = {"ids": ids, "mask": mask, "overwritten": mask, "weights": x}[self.about]
        return x + 1 if (asked == 0).any() else x - 1


@pytest.mark.parametrize("about", ["ids", "mask"])
def test_known_inputs_and_what_is_made_of_them_have_numbers(about):
    with torch.device("meta"):
        model = Asks(about)
        record = record_of(model, IDS, known_inputs=True)  # a default device is not the run's
    assert record.values[-1].op == "add"
    with pytest.raises(DataDependentOutputException):
        record_of(model, IDS)


def test_nothing_is_invented_for_what_depends_on_weights():
    with pytest.raises(DataDependentOutputException):
        record_of(Asks("weights"), IDS, known_inputs=True)
    with pytest.raises(RuntimeError, match=r"copy_.* writes what depends on weights into a tensor of known numbers"):
        record_of(Asks("overwritten"), IDS, known_inputs=True)


def test_known_inputs_are_copied():
    class Writes(nn.Module):
        def forward(self, x):
            return x.add_(1)

    x = torch.zeros(2)
    record_of(Writes(), x, known_inputs=True)
    assert not x.any()


loops_over_experts = pytest.mark.xfail(
    transformers.__version__.startswith("4."),
    raises=DynamicOutputShapeException,
    strict=True,
    reason="the weights decide which experts of transformers 4 run",
)


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "llama_causal",
        "t5",
        pytest.param("mixtral", marks=loops_over_experts),
        "mamba",
        "vit",
        "clip",
        "whisper",
    ],
)
def test_with_known_inputs_the_same_sites_are_found(name):
    zoo = build_or_skip(name)
    plain = assemble(Graph(trace(zoo.model, (), zoo.inputs, fake=False)))
    known = assemble(Graph(trace(zoo.model.to("meta"), (), zoo.inputs, known_inputs=True)))
    assert [found.site for found in known.sites] == [found.site for found in plain.sites]
    assert known.sites


def test_tied_weights_stay_tied():
    model = Model()
    model.blocks[1].mlp[0].weight = model.blocks[0].mlp[0].weight
    record = record_of(model)
    uses = [
        v
        for v in record.values
        if v.op == "linear" and "blocks.0.mlp.0.weight" in {record.values[j].name for j in v.inputs}
    ]
    assert len(uses) == 2
