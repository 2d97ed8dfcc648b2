"""Extra losses that a forward pass makes: added once, in training, handed out until the next one, never lost in silence."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from graftwork.errors import AttachError
from tests.support.attached import assert_close, bert_classifier, checkpoint, grads, ids, lively

INPUTS: dict[str, Any] = {"input_ids": ids(), "labels": torch.tensor([0, 1, 2, 0])}


def setup(**options: Any) -> tuple[nn.Module, gw.Adapters]:
    """A mixture of experts that learns, without noise, so that a forward pass is a function."""
    model = bert_classifier()
    adapters = gw.attach(model)
    adapters.add("m", gw.MoE(**{"bottleneck_size": 4, "experts": 3, "noise": False, "importance": 2.0, **options}))
    lively(adapters, "m")
    adapters.train_only("m")
    return model, adapters


def test_they_are_added_to_the_models_loss_in_training_alone() -> None:
    model, adapters = setup()
    plain = model(**INPUTS).loss
    assert adapters.auxiliary_loss() == 0
    model.train()
    outputs = model(**INPUTS)
    extra = adapters.auxiliary_loss()
    assert extra > 0
    torch.testing.assert_close(outputs.loss, plain + extra)
    torch.testing.assert_close(model(**INPUTS, return_dict=False)[0], plain + extra)
    adapters.train_only("m", active=None)
    torch.testing.assert_close(model(**INPUTS).loss, model.eval()(**INPUTS).loss)


def test_with_a_loss_of_ones_own_they_have_the_same_gradients() -> None:
    model, adapters = setup()
    model.train()
    model(**INPUTS).loss.backward()
    expected = grads(model)
    logits = model(input_ids=INPUTS["input_ids"]).logits
    (nn.functional.cross_entropy(logits, INPUTS["labels"]) + adapters.auxiliary_loss()).backward()
    assert_close(grads(model), expected)


def test_they_are_those_of_the_last_forward_pass_and_stay_on_no_module() -> None:
    model, adapters = setup()
    model.train()
    before = {name: sorted(vars(m)) for name, m in model.named_modules()}
    first = model(**INPUTS)
    one = adapters.auxiliary_loss()
    torch.testing.assert_close(adapters.auxiliary_loss(), one)
    model(**INPUTS)
    torch.testing.assert_close(adapters.auxiliary_loss(), one)
    assert {name: sorted(vars(m)) for name, m in model.named_modules()} == before
    with adapters.using(None):
        model(**INPUTS)
    assert adapters.auxiliary_loss() == 0
    first.loss.backward()


def test_each_thread_has_its_own() -> None:
    model, adapters = setup()
    model.train()
    model(**INPUTS)
    found: list[float] = []
    other = threading.Thread(target=lambda: found.append(float(adapters.auxiliary_loss())))
    other.start()
    other.join()
    assert found == [0.0]
    assert adapters.auxiliary_loss() > 0


def test_a_forward_pass_that_fails_leaves_none() -> None:
    model, adapters = setup()
    model.train()
    model(**INPUTS)
    with pytest.raises((IndexError, ValueError, RuntimeError)):
        model(input_ids=INPUTS["input_ids"], labels=torch.tensor([0, 1]))
    assert adapters.auxiliary_loss() == 0


def test_under_checkpointing_they_count_once() -> None:
    model, adapters = setup()
    model.train()
    outputs = model(**INPUTS)
    loss, extra = float(outputs.loss), float(adapters.auxiliary_loss())
    outputs.loss.backward()
    expected = grads(model)
    checkpoint(model)
    again = model(**INPUTS)
    assert float(again.loss) == pytest.approx(loss, rel=1e-6)
    again.loss.backward()
    assert_close(grads(model), expected, rtol=1e-5, atol=1e-7)
    assert float(adapters.auxiliary_loss()) == pytest.approx(extra, rel=1e-6)


def test_reentrant_checkpointing_would_lose_them_and_is_refused() -> None:
    model, adapters = setup()
    model.train()
    checkpoint(model, reentrant=True)
    with pytest.raises(AttachError, match=r"'m' has a loss of its own.*use_reentrant': False.*weight 0"):
        model(**INPUTS)
    adapters.active = None
    model(**INPUTS)
    adapters.remove("m")
    adapters.add("m", gw.MoE(bottleneck_size=4, experts=3, importance=0, load=0))
    adapters.train_only("m")
    model(**INPUTS).loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_without_gradients_they_are_a_number() -> None:
    model, adapters = setup()
    model.train()
    with torch.no_grad():
        loss = model(**INPUTS).loss
    assert adapters.auxiliary_loss() > 0 and not adapters.auxiliary_loss().requires_grad
    assert torch.isfinite(loss)


def test_a_mixture_that_is_frozen_inside_a_fusion_is_a_fixed_function() -> None:
    model, adapters = setup(noise=True)
    adapters.add("p", gw.Pfeiffer(bottleneck_size=4))
    pool = gw.Fuse("m", "p", name="f")
    adapters.add_fusion(pool, gw.FusionConfig(regularization=0.0))
    adapters.train_only(pool)
    model.train()
    first = model(**INPUTS)
    assert adapters.auxiliary_loss() == 0
    assert torch.equal(model(**INPUTS).logits, first.logits)
