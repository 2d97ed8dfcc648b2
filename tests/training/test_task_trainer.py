"""The Trainer of one task: class weights over accumulated batches, and what the best epoch is chosen by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

import graftwork as gw
from graftwork.errors import TrainingError
from graftwork.tasks import Task, TaskSpec
from graftwork.training.encoding import Encoded
from graftwork.training.recipe_trainer import choices_of, learnt
from graftwork.training.task_trainer import TaskTrainer
from tests.support.tiny_tasks import bert, tokenizer

TEXTS = (
    "the cat sat|a dog ran|the big red house|a small mat|the fast blue dog|a slowly cat|Anna lives|Bob works at".split(
        "|"
    )
)
ROWS = [{"text": text, "label": "rare" if n in (1, 6) else "often"} for n, text in enumerate(TEXTS)]
WEIGHTS = {"rare": 7.0, "often": 0.5}


def ready(**spec: Any) -> tuple[gw.Adapters, Encoded]:
    torch.manual_seed(0)
    adapters = gw.attach(gw.ModelWithHeads(bert()))
    task = Task.from_rows("t", TaskSpec(**spec), ROWS, ROWS)
    adapters.add("t", "pfeiffer")
    adapters.add_head("t", task.head())
    adapters.train_only("t")
    return adapters, Encoded(task, tokenizer(), 16)


def trainer(
    adapters: gw.Adapters, encoded: Encoded, folder: Path, size: int, chosen_by: str | None = None
) -> TaskTrainer:
    model: Any = adapters.model
    arguments = hf.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=0.0,
        num_train_epochs=3,
        learning_rate=1e-2,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=len(ROWS) // size,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="score" if chosen_by is None else "choice",
        remove_unused_columns=False,
    )
    return TaskTrainer(model, arguments, encoded, chosen_by=chosen_by)


def gradients(size: int, folder: Path) -> dict[str, Tensor]:
    """The gradients of one step over all rows, ``size`` of them a batch."""
    adapters, encoded = ready(class_weights=WEIGHTS)
    made = trainer(adapters, encoded, folder, size)
    model: Any = made.model
    made.create_optimizer()
    model.train()
    batches, items = made.get_batch_samples(iter(made.get_train_dataloader()), len(ROWS) // size, torch.device("cpu"))
    made.current_gradient_accumulation_steps = len(batches)
    for batch in batches:
        made.training_step(model, batch, items)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_weighted_loss_is_that_of_torch() -> None:
    adapters, encoded = ready(class_weights=WEIGHTS)
    model: Any = adapters.model.eval()
    batch = encoded.task.collate(
        encoded.features(encoded.task.train, train=True), encoded.processor, for_model=model.base
    )
    output = model(**batch)
    weights = torch.tensor([WEIGHTS[label] for label in encoded.task.labels])
    assert_close(output.loss, torch.nn.CrossEntropyLoss(weights)(output.logits, batch["labels"]))
    assert not torch.isclose(output.loss, F.cross_entropy(output.logits, batch["labels"]))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulated_batches_give_the_weighted_loss_of_one_large_batch(size: int, tmp_path: Path) -> None:
    """A batch without a rare row counts less than one with: the mean of the batches' losses would not be the loss."""
    assert_close(gradients(size, tmp_path), gradients(len(ROWS), tmp_path), rtol=1e-4, atol=1e-6)


def test_the_best_epoch_is_chosen_by_the_loss_where_that_is_asked_for(tmp_path: Path) -> None:
    adapters, encoded = ready()
    made = trainer(adapters, encoded, tmp_path, len(ROWS), "loss")
    made.train()
    losses = [entry["eval_loss"] for entry in made.state.log_history if "eval_loss" in entry]
    assert choices_of(made.state) == [-loss for loss in losses] and len(losses) == 3
    assert learnt(made.state)["best_epoch"] == losses.index(min(losses)) + 1
    again = made.evaluate()
    assert again["eval_loss"] == pytest.approx(min(losses), abs=1e-5), "these weights are kept"


def test_and_by_any_metric_of_the_kind(tmp_path: Path) -> None:
    adapters, encoded = ready()
    found = trainer(adapters, encoded, tmp_path, len(ROWS), "micro_f1").evaluate()
    assert found["eval_choice"] == found["eval_accuracy"], "which are the same where a row has one label"


def test_a_task_without_a_loss_cannot_be_chosen_by_it(tmp_path: Path) -> None:
    adapters, encoded = ready()
    made = trainer(adapters, encoded, tmp_path, len(ROWS), "loss")
    made._predictions = lambda rows: ([], None)  # type: ignore[method-assign]  # as of choices in words
    with pytest.raises(TrainingError, match="has none on its dev rows; give a metric"):
        made.task = made.task.__class__(**{**made.task.__dict__, "dev": made.task.dev[:0]})
        made.evaluate()
