"""Extra losses under a Trainer: once for each step of the optimiser, whatever the accumulation and however the loss is made."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from graftwork.training import AdapterTrainer
from tests.support.attached import assert_close, bert_classifier, ids, lively, made

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")
POOL = gw.Fuse("a", "b", name="f")
FLOAT32 = {"rtol": 1e-6, "atol": 2e-8}  # in which transformers computes the loss of the next word
TRAINERS = [hf.Trainer, AdapterTrainer]


def decoder() -> Any:
    config = hf.LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        use_cache=False,
    )
    return made(hf.LlamaForCausalLM, config).double()


def classifier() -> Any:
    return bert_classifier().double()


def rows(model: Any) -> list[dict[str, Tensor]]:
    """Four rows; of words those that are no labels differ from row to row, and the first one never is."""
    tokens = ids()
    if not isinstance(model, hf.LlamaForCausalLM):
        return [{"input_ids": row, "labels": row[0] % 3} for row in tokens]
    labels = [torch.where(torch.arange(7) <= n, torch.tensor(-100), row) for n, row in enumerate(tokens)]
    return [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]


def fusion(model: Any, regularization: float = 0.01) -> gw.Adapters:
    adapters = gw.attach(model)
    torch.manual_seed(0)
    for n, name in enumerate("ab"):
        adapters.add(name, gw.Pfeiffer(bottleneck_size=4, dtype="float64"))
        lively(adapters, name, seed=n + 1)
    adapters.add_fusion(POOL, gw.FusionConfig(regularization=regularization, dtype="float64"))
    lively(adapters, "f", size=0.05)
    adapters.train_only(POOL)
    return adapters


def step(cls: type[hf.Trainer], adapters: gw.Adapters, folder: Path, size: int, **options: Any) -> dict[str, Tensor]:
    """The gradients of one step of the optimiser over all rows, ``size`` of them a micro-batch."""
    model: Any = adapters.model
    found: dict[str, Tensor] = {}

    class Looking(torch.optim.SGD):
        def step(self, *_: Any, **__: Any) -> None:  # type: ignore[override]  # it keeps the gradients, and steps nowhere
            found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})

    optimizer = Looking([p for p in model.parameters() if p.requires_grad], lr=0.0)
    settings: dict[str, Any] = {"output_dir": str(folder), "use_cpu": True, "report_to": [], "disable_tqdm": True}
    settings.update(max_steps=1, save_strategy="no", max_grad_norm=0.0, logging_strategy="no")
    settings.update(per_device_train_batch_size=size, gradient_accumulation_steps=4 // size)
    own = {key: options.pop(key) for key in ("compute_loss_func",) if key in options}
    cls(
        model=model,
        args=hf.TrainingArguments(**settings, **options),
        train_dataset=rows(model),  # type: ignore[arg-type]  # a list serves as well
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
        **own,
    ).train()
    return found


def pull(adapters: gw.Adapters) -> dict[str, Tensor]:
    adapters.model.zero_grad(set_to_none=True)
    adapters.auxiliary_loss().backward()
    return {n: p.grad.clone() for n, p in adapters.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("cls", TRAINERS)
def test_gradient_accumulation_counts_the_pull_once(cls: type[hf.Trainer], size: int, tmp_path: Path) -> None:
    without = step(cls, fusion(decoder(), regularization=0.0), tmp_path, 4)
    adapters = fusion(decoder())
    found = step(cls, adapters, tmp_path, size)
    extra = pull(adapters)
    assert any(value.abs().max() > 1e-3 for value in extra.values())
    assert_close(found, {n: g + extra.get(n, 0) for n, g in without.items()}, **FLOAT32)


def mean(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    loss = nn.functional.cross_entropy(outputs.logits, labels, reduction="sum")
    return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(
    "options", [{"label_smoothing_factor": 0.1}, {"compute_loss_func": mean}], ids=["smoothing", "own"]
)
def test_a_loss_that_is_made_of_the_outputs(options: dict[str, Any], size: int, tmp_path: Path) -> None:
    without = step(AdapterTrainer, fusion(classifier(), regularization=0.0), tmp_path, size, **options)
    adapters = fusion(classifier())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        found = step(AdapterTrainer, adapters, tmp_path, size, **options)
    extra = pull(adapters)
    assert_close(found, {n: g + extra.get(n, 0) for n, g in without.items()}, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options", [{"label_smoothing_factor": 0.1}, {"compute_loss_func": mean}], ids=["smoothing", "own"]
)
def test_a_plain_trainer_that_drops_them_is_warned_before_its_first_step(
    options: dict[str, Any], tmp_path: Path
) -> None:
    adapters = fusion(classifier())
    with pytest.warns(UserWarning, match="'f'.*without them.*AdapterTrainer"):
        step(hf.Trainer, adapters, tmp_path, 4, **options)


def test_nobody_is_warned_who_adds_them_or_has_none() -> None:
    model = classifier()
    adapters = fusion(model)
    model.train()
    inputs = {"input_ids": ids(), "labels": torch.tensor([0, 1, 2, 0])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(**inputs).loss.backward()
        logits = model(input_ids=inputs["input_ids"]).logits
        (nn.functional.cross_entropy(logits, inputs["labels"]) + adapters.auxiliary_loss()).backward()
        adapters.train_only("a")
        model(input_ids=inputs["input_ids"]).logits.sum().backward()
    adapters.train_only(POOL)
    with pytest.warns(UserWarning, match="extra losses"):
        model(input_ids=inputs["input_ids"]).logits.sum().backward()


def test_a_mixture_of_experts_balances_as_over_its_micro_batches(tmp_path: Path) -> None:
    """The balance is of a batch; over micro-batches it is their mean, and not their sum."""

    def mixture() -> gw.Adapters:
        adapters = gw.attach(decoder())
        torch.manual_seed(0)
        adapters.add("m", gw.MoE(bottleneck_size=4, experts=3, noise=False, importance=50.0, dtype="float64"))
        lively(adapters, "m", size=0.1)
        adapters.train_only("m")
        return adapters

    found = step(AdapterTrainer, mixture(), tmp_path, 1)
    adapters = mixture()
    model: Any = adapters.model.train()
    data = rows(model)
    items = sum(int(row["labels"][1:].ne(-100).sum()) for row in data)
    for row in data:
        batch = {key: value[None] for key, value in row.items()}
        loss = model(input_ids=batch["input_ids"]).logits[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(loss, batch["labels"][:, 1:].flatten(), reduction="sum") / items
        (loss + adapters.auxiliary_loss() / 4).backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert_close(found, expected, **FLOAT32)
