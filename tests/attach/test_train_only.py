"""What learns: weights, dropout, batch norms, extra losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import bert_classifier, grads, ids, lively, with_adapters

POOL = gw.Fuse("a", "b", name="ab")
INPUTS = {"input_ids": ids(), "labels": torch.tensor([0, 2, 1, 1])}


def setup(**config: Any) -> tuple[Any, gw.Adapters]:
    model = bert_classifier(**config)
    adapters = gw.attach(model)
    for name, made in {"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby()}.items():
        adapters.add(name, made)
        lively(adapters, name)
    adapters.add_fusion(POOL)
    return model, adapters


def learning(model: nn.Module) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def of(model: nn.Module, *names: str) -> set[str]:
    return {n for n, _ in model.named_parameters() if any(f".n_{name}." in n for name in names)}


CASES: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "name": ("a", "a", ("a",)),
    "norms": ("h", "h", ("h",)),
    "fusion by name": ("ab", POOL, ("ab",)),
    "pool": (POOL, POOL, ("ab",)),
    "stack": (gw.Stack("a", "h"), gw.Stack("a", "h"), ("a", "h")),
    "stack with a pool": (gw.Stack("h", POOL), gw.Stack("h", POOL), ("h", "a", "b", "ab")),
    "one of a list": (["b"], "b", ("b",)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_learns(case: str) -> None:
    what, active, names = CASES[case]
    model, adapters = setup()
    adapters.train_only(what)
    assert adapters.active == active
    assert set(adapters.trainable) == set(names)
    assert learning(model) == of(model, *names)
    model.train()
    model(**INPUTS).loss.backward()
    reached = set(grads(model))
    heads = {n for n in learning(model) if "heads" in n}
    assert learning(model) - reached <= heads  # in a Stack the last head is used
    if len(names) == 1:
        assert learning(model) == reached


def test_active_is_said_apart() -> None:
    model, adapters = setup()
    adapters.train_only("h", active=gw.Stack("a", "h"))
    assert adapters.active == gw.Stack("a", "h")
    assert learning(model) == of(model, "h")
    adapters.train_only(["a", "ab"], active=POOL)
    assert learning(model) == of(model, "a", "ab")
    model.train()
    model(**INPUTS).loss.backward()
    assert {n for n in grads(model) if "heads" not in n} == {n for n in learning(model) if "heads" not in n}
    adapters.train_only("a", active=None)
    assert adapters.active is None
    assert learning(model) == of(model, "a")


def test_what_is_refused_changes_nothing() -> None:
    model, adapters = setup()
    adapters.train_only("a")
    before = learning(model), adapters.active, adapters.trainable
    with pytest.raises(gw.ConfigError, match="active="):
        adapters.train_only(["a", "b"])
    with pytest.raises(gw.ConfigError, match="frozen, norms, trained"):
        adapters.train_only("b", base="all")
    for unknown in ("c", ["c"], gw.Stack("a", "c"), gw.Fuse("a", "c", name="ac")):
        with pytest.raises(gw.UnknownNameError):
            adapters.train_only(unknown)
        with pytest.raises(gw.UnknownNameError):
            adapters.train_only(unknown, active="b")
        with pytest.raises(gw.UnknownNameError):
            adapters.train_only("b", active=unknown if not isinstance(unknown, list) else "c")
    with pytest.raises(gw.CompositionError):
        adapters.train_only("b", active=gw.Average("a", "h"))  # norms that differ
    assert (learning(model), adapters.active, adapters.trainable) == before


def test_the_base_learns_too() -> None:
    model, adapters = setup()
    fixed = model.bert.embeddings.word_embeddings.weight
    adapters.detach()
    fixed.requires_grad_(False)  # by the user
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    adapters.train_only("a", base="norms")
    norms = {n for n, _ in model.named_parameters() if "LayerNorm" in n}
    assert learning(model) == of(model, "a") | norms
    adapters.train_only("a", base="trained")
    own = {n for n, _ in model.named_parameters() if "graftwork" not in n and "word_embeddings" not in n}
    assert learning(model) == of(model, "a") | own
    adapters.train_only("a")
    assert learning(model) == of(model, "a")
    adapters.detach()
    assert not fixed.requires_grad
    assert all(p.requires_grad for p in model.parameters() if p is not fixed)


def test_a_base_that_is_frozen_keeps_every_bit() -> None:
    model, adapters = setup()
    adapters.train_only(POOL)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(**INPUTS).loss.backward()
        optimizer.step()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed <= learning(model)
    assert changed >= {k for k in learning(model) if "key_bias" not in k}


def test_frozen_adapters_drop_nothing() -> None:
    model, adapters, inputs = with_adapters("bert", a=gw.Pfeiffer(dropout=0.5), b=gw.Pfeiffer(stochastic_depth=0.5))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout_prob", None), float):
            module.dropout_prob = 0.0
    adapters.add_fusion(POOL, gw.FusionConfig(dropout=0.5))
    lively(adapters, "ab")
    model.config.attention_probs_dropout_prob = 0.0
    model.train()

    def random(composition: Any) -> bool:
        with torch.no_grad(), adapters.using(composition):
            found = [model(**inputs).last_hidden_state for _ in range(4)]
        return any(not torch.equal(f, found[0]) for f in found)

    for learner, loud in (("a", {"a"}), ("b", {"b"}), ("ab", {"ab"})):
        adapters.train_only(learner)
        assert random("a") == ("a" in loud)
        assert random("b") == ("b" in loud)
        assert random(POOL)
        model.eval()
        assert not random(POOL)
        model.train()
    adapters.train_only(None)
    assert not random(POOL)


class Conv(nn.Module):
    """A small network with batch norms, whose sites are given by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8))
        self.mix = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).transpose(1, 2)
        h = h + self.mix(h)
        return self.head(self.norm(h.transpose(1, 2)).mean(-1))


def test_batch_norms_of_a_frozen_base_stand_still() -> None:
    model = Conv()
    site = gw.Site(stack="", layer=0, kind="feed_forward", block="mix", output=gw.Tap("mix", "output"), width=8)
    adapters = gw.attach(model, sites=[site])
    adapters.add("a", gw.Standard(bottleneck_size=4))
    adapters.train_only("a")
    before = {k: v.clone() for k, v in model.state_dict().items() if "graftwork" not in k}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model.train()
        model(torch.randn(4, 3, 6)).square().sum().backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        if "graftwork" not in key:
            assert torch.equal(value, before[key]), key
    adapters.train_only("a", base="trained")
    model.train()
    model(torch.randn(4, 3, 6)).square().sum().backward()
    assert not torch.equal(model.norm.running_mean, before["norm.running_mean"])
    adapters.train_only("a")
    model.train()
    model(torch.randn(4, 3, 6))
    adapters.detach()
    assert all(m.training for m in model.modules())


def test_extra_losses_are_added_in_training_alone() -> None:
    model, adapters = setup()
    lively(adapters, "ab")
    adapters.train_only(POOL)
    extra = adapters.auxiliary_loss()
    assert extra > 0
    plain = model(**INPUTS).loss
    model.train()
    torch.testing.assert_close(model(**INPUTS).loss, plain + extra)
    as_tuple = model(**INPUTS, return_dict=False)
    torch.testing.assert_close(as_tuple[0], plain + extra)
    without = {"input_ids": INPUTS["input_ids"]}
    assert model(**without).loss is None
    torch.testing.assert_close(model(**without, return_dict=False)[0], as_tuple[1])
    model.eval()
    torch.testing.assert_close(model(**INPUTS).loss, plain)
    torch.testing.assert_close(model(**INPUTS, return_dict=False)[0], plain)
    adapters.train_only("a", active=POOL)
    model.train()
    torch.testing.assert_close(model(**INPUTS).loss, plain)
    assert adapters.auxiliary_loss() == 0


def test_the_extra_loss_has_the_gradient_of_the_pull() -> None:
    model, adapters = setup()
    lively(adapters, "ab")
    adapters.train_only(POOL)
    model.eval()
    model(**INPUTS).loss.backward()
    plain = grads(model)
    model.train()
    model(**INPUTS).loss.backward()
    pulled = grads(model)
    values = {n: p for n, p in model.named_parameters() if n in plain and n.endswith("value_delta")}
    assert values
    for name, p in values.items():
        torch.testing.assert_close(pulled[name] - plain[name], 0.02 * p.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("how", ["decay", "pull"])
def test_decay_and_pull_lead_to_the_identity(how: str) -> None:
    model, adapters = setup()
    lively(adapters, "ab")
    adapters.train_only(POOL)
    module = next(iter(adapters.modules_of("ab").values()))
    start = (module.value() - torch.eye(32)).norm()
    if how == "decay":
        optimizer = torch.optim.AdamW(adapters.model.parameters(), lr=0.1, weight_decay=0.5)
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
        for _ in range(100):
            optimizer.step()
    else:
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.0)
        for _ in range(60):
            optimizer.zero_grad()
            adapters.auxiliary_loss().backward()
            optimizer.step()
    assert (module.value() - torch.eye(32)).norm() < 0.01 * start


def test_temperature_falls_by_steps_alone() -> None:
    model, adapters = setup()
    adapters.remove("ab")
    adapters.add_fusion(POOL, gw.FusionConfig(temperature=5.0, temperature_steps=4))
    adapters.train_only(POOL)
    module = next(iter(adapters.modules_of("ab").values()))
    model.train()
    for step in range(6):
        assert module.temperature.item() == pytest.approx(max(5.0 - step, 1.0))
        for _ in range(2):
            model(**INPUTS)
        adapters.on_optimizer_step()
