"""Two passes whose predictions agree: the loss and its gradient written out, accumulation, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import graftwork as gw
from graftwork.training import AdapterTrainer, ConsistencyTrainer
from tests.support.attached import bert_classifier, lively
from tests.training.test_trainer_losses import classifier, decoder, rows

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def attached(model: Any) -> gw.Adapters:
    adapters = gw.attach(model)
    torch.manual_seed(0)
    adapters.add("a", gw.AdaMix(bottleneck_size=4, dtype="float64"))
    lively(adapters, "a")
    adapters.train_only("a")
    return adapters


def trainer(cls: type[AdapterTrainer], model: Any, folder: Path, **options: Any) -> AdapterTrainer:
    settings: dict[str, Any] = {"output_dir": str(folder), "use_cpu": True, "report_to": [], "disable_tqdm": True}
    settings.update(
        max_steps=2, save_strategy="no", logging_strategy="no", learning_rate=0.01, per_device_train_batch_size=2
    )
    own = {key: options.pop(key) for key in ("consistency",) if key in options}
    given: Any = rows(model)
    return cls(model=model, args=hf.TrainingArguments(**settings, **options), train_dataset=given, **own)


def batch(model: Any) -> dict[str, Tensor]:
    given = rows(model)
    return {name: torch.stack([row[name] for row in given]) for name in given[0]}


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of two sets of logits, for each row."""
    return torch.stack([(a * (a / b).log()).sum() for a, b in zip(p.softmax(-1), q.softmax(-1), strict=True)])


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("make", [classifier, decoder])
def test_the_loss_is_that_of_the_first_pass_and_how_far_both_are_apart(
    make: Any, weight: float, tmp_path: Path
) -> None:
    model = make()
    attached(model)
    here = trainer(ConsistencyTrainer, model, tmp_path, consistency=weight)
    model.train()
    torch.manual_seed(1)
    actual = here.compute_loss(model, batch(model))
    torch.manual_seed(1)
    given = batch(model)
    first, second = model(**given), model(**given)
    one, other = first.logits, second.logits
    if make is decoder:  # the positions whose next token is a label
        counted = given["labels"][:, 1:] != -100
        one, other = one[:, :-1][counted], other[:, :-1][counted]
    apart = 0.5 * (kl(one, other) + kl(other, one)).mean()
    assert float(apart.detach()) > 1e-4
    torch.testing.assert_close(actual, first.loss + weight * apart, rtol=1e-6, atol=1e-8)
    # each of the two is pulled towards the other, which is a constant there
    pulled = 0.5 * (kl(other.detach(), one) + kl(one.detach(), other)).mean()
    weights = [p for p in model.parameters() if p.requires_grad]
    expected = torch.autograd.grad(first.loss + weight * pulled, weights)
    for got, wanted in zip(torch.autograd.grad(actual, weights), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-8)


def test_passes_that_are_the_same_add_nothing(tmp_path: Path) -> None:
    """Nothing is random in them."""
    model = classifier()
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=4, dtype="float64"))
    adapters.train_only("a")
    model.train()
    both = [
        trainer(cls, model, tmp_path).compute_loss(model, batch(model)) for cls in (AdapterTrainer, ConsistencyTrainer)
    ]
    torch.testing.assert_close(*both, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [classifier, decoder])
def test_it_trains_and_evaluates(make: Any, tmp_path: Path) -> None:
    model = make()
    adapters = attached(model)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    here = trainer(ConsistencyTrainer, model, tmp_path, gradient_accumulation_steps=2, label_smoothing_factor=0.1)
    here.train()
    assert any(not torch.equal(p, q) for p, q in zip(adapters.trainable_parameters(), before, strict=True))
    given: Any = rows(model)
    plain = trainer(AdapterTrainer, model, tmp_path, label_smoothing_factor=0.1)
    assert here.evaluate(given)["eval_loss"] == plain.evaluate(given)["eval_loss"]


def test_what_is_refused(tmp_path: Path) -> None:
    model = bert_classifier()
    attached(model)
    with pytest.raises(gw.ConfigError, match=r"consistency is -1; give a number of 0 or more"):
        trainer(ConsistencyTrainer, model, tmp_path, consistency=-1)
    number = bert_classifier(1).double()
    attached(number)
    here = trainer(ConsistencyTrainer, number, tmp_path)
    number.train()
    with pytest.raises(gw.GraftworkError, match=r"over several classes, .* has logits \(4, 1\); use AdapterTrainer"):
        here.compute_loss(number, {**batch(number), "labels": torch.zeros(4, dtype=torch.double)})
