"""Training with transformers' own Trainer: early stopping on held-out rows, and a line of progress."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tasks import Task, encode
from transformers import DataCollatorWithPadding, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

CONSOLE = Console()
if not CONSOLE.is_terminal:
    CONSOLE = Console(width=110)  # in a file nothing needs to wrap


@dataclasses.dataclass
class Recipe:
    """What every training here shares."""

    tokenizer: Any
    max_length: int
    bf16: bool
    batch_size: int = 16
    patience: int = 3


@dataclasses.dataclass
class Fit:
    """What came out of one training.

    Attributes:
        accuracy: On the task's dev rows.
        parameters: How many were trained.
        epochs: How many epochs ran, and the one whose weights were kept.
        seconds: The wall clock, with the look at the held-out rows after each epoch.
    """

    accuracy: float
    parameters: int
    epochs: tuple[int, int]
    seconds: float


def fit(model: PreTrainedModel, task: Task, what: str, recipe: Recipe, lr: float, epochs: int, seed: int) -> Fit:
    """Train whatever of the model wants a gradient; keep the best epoch's weights; measure on dev."""
    with tempfile.TemporaryDirectory() as folder, Progress(
        TextColumn("{task.description:34}"), BarColumn(20), TextColumn("{task.fields[seen]}"), TimeElapsedColumn(),
        console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal,
    ) as progress:  # fmt: skip
        keep = KeepBest(recipe.patience, progress, progress.add_task(what, seen=""))
        trainer = make_trainer(model, task, recipe, folder, [keep], lr=lr, epochs=epochs, seed=seed)
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        accuracy = measure(trainer, task, recipe)
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # autocast stays around its forward otherwise
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    CONSOLE.print(
        f"{what:46} [bold]{accuracy:6.1%}[/] on dev, best epoch {keep.best_epoch} of {keep.epoch}, {seconds:5.1f} s",
        highlight=False,
    )
    return Fit(accuracy, trained, (keep.epoch, keep.best_epoch), seconds)


def measure(trainer: Trainer, task: Task, recipe: Recipe) -> float:
    """The accuracy on the task's dev rows of the model as it is now."""
    rows = encode(task.dev, recipe.tokenizer, recipe.max_length)
    return trainer.evaluate(rows, metric_key_prefix="dev")["dev_accuracy"]


def make_trainer(
    model: PreTrainedModel, task: Task, recipe: Recipe, folder: str, callbacks: list, lr: float, epochs: int, seed: int
) -> Trainer:
    """A Trainer for the task; nothing about it is particular to adapters."""
    # Rows of like length share a batch, so that little is computed for padding; the option has two names.
    renamed = "train_sampling_strategy" in TrainingArguments.__dataclass_fields__
    by_length = {"train_sampling_strategy": "group_by_length"} if renamed else {"group_by_length": True}
    args = TrainingArguments(
        output_dir=folder,
        learning_rate=lr,
        num_train_epochs=epochs,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=64,
        warmup_steps=10,
        weight_decay=0.01,
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **by_length,
        seed=seed,
    )
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=encode(task.train, recipe.tokenizer, recipe.max_length),
        eval_dataset=encode(task.held_out, recipe.tokenizer, recipe.max_length),
        data_collator=DataCollatorWithPadding(recipe.tokenizer),
        compute_metrics=scores,
        callbacks=callbacks,
    )
    for callback in [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"]:
        trainer.remove_callback(callback)  # prints every measurement; ours shows them in one line
    return trainer


def scores(prediction: Any) -> dict[str, float]:
    """The accuracy, and the mean probability given to the right label.

    The second is what early stopping looks at. It moves with every row, where an accuracy on few rows stands still; and
    a few confident mistakes do not outweigh everything, as they do in the loss.
    """
    logits, labels = torch.as_tensor(prediction.predictions).float(), np.asarray(prediction.label_ids)
    right = logits.softmax(-1)[torch.arange(len(labels)), torch.as_tensor(labels)]
    return {"accuracy": float((logits.argmax(-1).numpy() == labels).mean()), "likelihood": float(right.mean())}


class KeepBest(TrainerCallback):
    """Stops after `patience` epochs without a better likelihood, and puts the best epoch's weights back.

    Only what is trained is kept, in memory: no checkpoint of a model that did not change is written.
    """

    def __init__(self, patience: int, progress: Progress, bar: Any) -> None:
        self.patience, self.progress, self.bar = patience, progress, bar
        self.epoch, self.best_epoch, self.best = 0, 0, -1.0
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.update(self.bar, total=state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress.update(self.bar, completed=state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, *, model: Any, metrics: Any, **kwargs: Any) -> None:
        if "eval_likelihood" not in metrics:
            return  # the look at dev, when all is over
        self.epoch += 1
        if metrics["eval_likelihood"] > self.best:
            self.best, self.best_epoch = metrics["eval_likelihood"], self.epoch
            self.weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        control.should_training_stop |= self.epoch - self.best_epoch >= self.patience
        seen = f"epoch {self.epoch}: {metrics['eval_accuracy']:.1%} held out"
        self.progress.update(self.bar, seen=seen)

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in self.weights:
                    p.copy_(self.weights[name])
