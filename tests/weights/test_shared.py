"""Tensors that the sites of one adapter have in common: registered once in the root, referred to by every site."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import graftwork as gw
from graftwork.methods import AdapterModule, Context, Place
from graftwork.methods.layers.kronecker import Rule
from tests.support.attached import assert_same, bert_classifier, ids, lively, output, snapshot
from tests.support.interpreter import Lab, close

INPUTS = {"input_ids": ids()}
RULE = "graftwork.shared.n_a.matrices"
CONFIG = gw.Compacter(bottleneck_size=8, norms="base")


def setup(model: Any = None) -> tuple[Any, gw.Adapters]:
    model = bert_classifier() if model is None else model
    adapters = gw.attach(model)
    for n, name in enumerate("ab"):
        adapters.add(name, CONFIG)
        lively(adapters, name, seed=n)
    return model, adapters


def rule_of(adapters: gw.Adapters, name: str) -> Rule:
    rule = adapters.shared_of(name)
    assert isinstance(rule, Rule)
    return rule


def loss(model: Any) -> Tensor:
    return model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss  # type: ignore[no-any-return]


# -- one tensor --------------------------------------------------------------------------------------------------------


def test_it_is_registered_once_and_referred_to_by_every_site() -> None:
    model, adapters = setup()
    rule = rule_of(adapters, "a")
    assert [n for n, p in model.named_parameters(remove_duplicate=False) if p is rule.matrices] == [RULE]
    assert [n for n in model.state_dict() if n.endswith("n_a.matrices")] == [RULE]
    modules = [*adapters.modules_of("a").values()]
    assert len(modules) == 4
    for module in modules:
        assert module.shared is rule
        assert all(p is not rule.matrices for p in module.parameters())
        assert any(p is rule.matrices for p in module.weights())
    adapters.add("p", gw.Pfeiffer())
    assert adapters.shared_of("p") is None
    (row, *_) = adapters.summary().rows
    assert row.weights == sum(p.numel() for m in modules for p in m.parameters()) + 64


def test_two_adapters_share_nothing() -> None:
    model, adapters = setup()
    one, other = rule_of(adapters, "a"), rule_of(adapters, "b")
    assert one is not other
    assert not torch.equal(one.matrices, other.matrices)
    adapters.train_only("a")
    assert (one.matrices.requires_grad, other.matrices.requires_grad) == (True, False)
    loss(model).backward()
    assert one.matrices.grad is not None
    assert other.matrices.grad is None
    adapters.train_only("b")
    assert (one.matrices.requires_grad, other.matrices.requires_grad) == (False, True)
    adapters.remove("a")
    assert rule_of(adapters, "b") is other


@pytest.mark.parametrize("reentrant", [None, False, True])
def test_the_gradients_of_all_sites_add_up(reentrant: bool | None) -> None:
    model, adapters = setup()
    adapters.train_only("a")
    if reentrant is not None:
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()
    loss(model).backward()
    total = rule_of(adapters, "a").matrices.grad
    assert total is not None
    parts = []
    for module in adapters.modules_of("a").values():
        module.__dict__["shared"] = copy.deepcopy(rule_of(adapters, "a"))
        module.shared.zero_grad()
        parts.append(module.shared.matrices)
    model.zero_grad()
    loss(model).backward()
    assert all(p.grad is not None and p.grad.any() for p in parts)
    torch.testing.assert_close(torch.stack([p.grad for p in parts]).sum(0), total, rtol=1e-4, atol=1e-7)


# -- composed: the plain formula ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["bert", "gpt2", "gpt_neox"])
def test_compositions_equal_the_plain_formula(model: str) -> None:
    here = Lab(model)
    feed_forward = gw.CompacterPlusPlus(bottleneck_size=8, norms="base")
    here.add("a", CONFIG)
    here.add("b", feed_forward)
    here.add("p", gw.Pfeiffer())
    here.add("w", dataclasses.replace(CONFIG, rank=None, n=2))
    pools = [gw.Fuse("a", "b", "p", name="f"), gw.Fuse("a", "w", name="g")]
    for pool in pools:
        here.add_fusion(pool)
    rows = len(here.inputs["input_ids"])
    compositions = [
        *pools,
        gw.Average("a", "w", "p", weights=[1, 2, 3]),
        gw.Stack("a", "p", "b"),
        gw.MixedBatch(["a", *["w"] * (rows - 2), "b"]),
        gw.BatchSplit("p", pools[0], batch_sizes=[1, rows - 1]),
    ]
    for composition in compositions:
        with torch.no_grad():
            close(here.run(composition), here.expect(composition))
            rule_of(here.adapters, "a").matrices.mul_(1.5)  # what is kept of fixed weights has to see this too
            close(here.run(composition), here.expect(composition))
    for learning, active in ((pools[0], pools[0]), ("a", pools[0]), (["a", "w"], pools[1])):
        here.adapters.train_only(learning, active=active)
        weights = [p for p in here.model.parameters() if p.requires_grad]
        expected = torch.autograd.grad(here.expect(active).square().mean(), weights, allow_unused=True)
        found = torch.autograd.grad(here.run(active).square().mean(), weights, allow_unused=True)
        # None: of a site that the fusion does not reach. All at once: a key's bias has none but rounding errors.
        assert [g is None for g in found] == [g is None for g in expected]
        flat = [torch.cat([g.flatten() for g in grads if g is not None]) for grads in (found, expected)]
        close(*flat, tolerance=1e-9)


# -- copies, moves -----------------------------------------------------------------------------------------------------


def deep(model: nn.Module, folder: Path) -> nn.Module:
    return copy.deepcopy(model)


def pickled(model: nn.Module, folder: Path) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def saved(model: nn.Module, folder: Path) -> nn.Module:
    torch.save(model, folder / "model.pt")
    return torch.load(folder / "model.pt", weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", [deep, pickled, saved])
def test_a_copy_shares_its_own(way: Any, tmp_path: Path) -> None:
    model, adapters = setup()
    adapters.activate(gw.Average("a", "b"), head="a")
    expected = output(model, INPUTS)
    other = way(model, tmp_path)
    theirs = gw.of(other)
    rule = rule_of(theirs, "a")
    assert rule is not rule_of(adapters, "a")
    assert all(m.shared is rule for m in theirs.modules_of("a").values())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in other.parameters()}
    assert torch.equal(output(other, INPUTS), expected)
    with torch.no_grad():
        rule_of(adapters, "a").matrices.add_(1)
    assert torch.equal(output(other, INPUTS), expected)
    assert not torch.equal(output(model, INPUTS), expected)
    with torch.no_grad():
        rule.matrices.add_(1)
    assert torch.equal(output(other, INPUTS), output(model, INPUTS))


@pytest.mark.parametrize("overwrite", [False, True])
def test_it_moves_with_the_model(overwrite: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a move makes new parameters."""
    monkeypatch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", overwrite)
    model, adapters = setup()
    adapters.active = "a"
    before = output(model, INPUTS)
    model.double()
    assert all(m.shared.matrices.dtype is torch.float64 for m in adapters.modules_of("a").values())
    torch.testing.assert_close(output(model, INPUTS), before.double(), rtol=1e-4, atol=1e-5)
    model.to("meta")
    assert rule_of(adapters, "a").matrices.is_meta
    assert all(m.shared is rule_of(adapters, "a") for m in adapters.modules_of("a").values())


def test_it_is_made_where_the_model_is() -> None:
    with torch.device("meta"):
        model = bert_classifier()
    adapters = gw.attach(model)
    adapters.add("a", CONFIG)
    assert rule_of(adapters, "a").matrices.is_meta


def test_detaching_takes_it_away() -> None:
    model = bert_classifier()
    before = snapshot(model)
    _, adapters = setup(model)
    adapters.train_only("a")
    loss(model).backward()
    adapters.active = None
    adapters.remove("a")
    assert not [name for name in model.state_dict() if "n_a" in name.split(".")]
    model.zero_grad()
    adapters.detach()
    assert_same(before, snapshot(model))


# -- files -------------------------------------------------------------------------------------------------------------


def test_save_pretrained_writes_it_once(tmp_path: Path) -> None:
    model, _ = setup()
    model.save_pretrained(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert [name for name in tensors if name.endswith("matrices")] == [RULE, RULE.replace("n_a", "n_b")]
    other, theirs = setup()
    for p in other.parameters():
        p.data.zero_()
    other.load_state_dict(tensors)
    with theirs.using("a"), gw.of(model).using("a"):
        assert torch.equal(output(other, INPUTS), output(model, INPUTS))


def test_a_file_has_it_once_and_a_file_without_it_is_refused(tmp_path: Path) -> None:
    _, adapters = setup()
    adapters.save("a", tmp_path / "a")
    path = tmp_path / "a" / "adapter.safetensors"
    tensors = safetensors.torch.load_file(path)
    assert [name for name in tensors if "matrices" in name] == ["shared/matrices"]
    _, other = setup()
    other.load(tmp_path / "a", "again")
    assert torch.equal(rule_of(other, "again").matrices, rule_of(adapters, "a").matrices)
    assert all(m.shared is rule_of(other, "again") for m in other.modules_of("again").values())
    assert not rule_of(other, "again").matrices.requires_grad
    del tensors["shared/matrices"]
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(gw.CheckpointError, match="missing: shared/matrices"):
        other.load(tmp_path / "a", "once-more")
    assert "once-more" not in other.names


# -- any method --------------------------------------------------------------------------------------------------------


class Scaled(AdapterModule):
    """A method by its outputs: h times one vector that all sites share."""

    def forward(self, read: Tensor, context: Context) -> Tensor:
        assert isinstance(self.shared, nn.ParameterList)
        return read * self.shared[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledConfig(gw.AdapterConfig):
    """Not registered: what a method of a user's own looks like."""

    def shared(self, places: Sequence[Place]) -> nn.Module:
        widths = {place.site.width for place in places if place.site.kind == "feed_forward"}
        return nn.ParameterList([torch.zeros(widths.pop())])

    def build(self, place: Place, shared: nn.Module | None = None) -> AdapterModule | None:
        return Scaled(reads="output", writes="branch", shared=shared) if place.site.kind == "feed_forward" else None


def test_a_method_whose_sites_have_nothing_but_what_they_share() -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    plain = output(model, INPUTS)
    adapters.add("s", ScaledConfig())
    adapters.train_only("s")
    (row,) = adapters.summary().rows
    assert row.weights == model.config.hidden_size
    assert torch.equal(output(model, INPUTS), plain)
    model.train()
    loss(model).backward()
    (vector,) = adapters.shared_of("s").parameters()
    assert vector.grad is not None and vector.grad.any()
    with torch.no_grad():
        vector -= vector.grad
    model.eval()
    assert not torch.equal(output(model, INPUTS), plain)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    torch._dynamo.reset()
    model, adapters = setup(bert_classifier(num_hidden_layers=1))
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for composition in ("a", gw.Average("a", "b")):
        head = {"head": "a"}
        with torch.no_grad(), adapters.using(composition, **head):
            torch.testing.assert_close(compiled(**INPUTS).logits, model(**INPUTS).logits)
    adapters.train_only("a")
    loss(model).backward()
    expected = rule_of(adapters, "a").matrices.grad
    model.zero_grad()
    compiled(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    torch.testing.assert_close(rule_of(adapters, "a").matrices.grad, expected)
    torch._dynamo.reset()
