"""Training with transformers' own Trainer; how far it is as a bar in a terminal, as a line every few seconds elsewhere."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from tasks import Task, encode
from transformers import DataCollatorWithPadding, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

CONSOLE = Console()
if not CONSOLE.is_terminal:
    CONSOLE = Console(width=110)  # in a file nothing needs to wrap


@dataclasses.dataclass
class Recipe:
    """What every training here shares."""

    base: str
    tokenizer: Any
    max_length: int
    batch_size: int = 16


@dataclasses.dataclass
class Fit:
    """What came out of one training.

    Attributes:
        accuracy: On the task's dev rows, at the end.
        parameters: How many were trained.
        epochs: How many epochs ran.
        seconds: The wall clock.
    """

    accuracy: float
    parameters: int
    epochs: int
    seconds: float


def fit(model: PreTrainedModel, task: Task, what: str, recipe: Recipe, lr: float, epochs: int, seed: int) -> Fit:
    """Train whatever of the model wants a gradient; measure on dev when the epochs are over."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, task, recipe, folder, lr=lr, epochs=epochs, seed=seed)
        trainer.add_callback(HowFar(what))
        trainer.train()
        seconds = time.perf_counter() - began
        accuracy = trainer.evaluate(metric_key_prefix="dev")["dev_accuracy"]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    CONSOLE.print(f"{what:46} [bold]{accuracy:6.1%}[/] on dev, {seconds:5.1f} s", highlight=False)
    return Fit(accuracy, trained, epochs, seconds)


def make_trainer(
    model: PreTrainedModel, task: Task, recipe: Recipe, folder: str, lr: float, epochs: int, seed: int
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
        use_cpu=not torch.cuda.is_available(),
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
        eval_dataset=encode(task.dev, recipe.tokenizer, recipe.max_length),
        data_collator=DataCollatorWithPadding(recipe.tokenizer),
        compute_metrics=lambda seen: {"accuracy": float((seen.predictions.argmax(-1) == seen.label_ids).mean())},
    )
    for callback in [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"]:
        trainer.remove_callback(callback)  # prints every measurement; `fit` says it in one line
    return trainer


class HowFar(TrainerCallback):
    """A bar that goes away again; where there is no terminal, a line when nothing was printed for some seconds."""

    SILENCE = 5.0

    def __init__(self, what: str) -> None:
        self.bar = Progress(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)
        self.what, self.row, self.silent_until = what, self.bar.add_task(what), time.perf_counter() + self.SILENCE

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.row, completed=state.global_step, total=state.max_steps)
        if self.bar.disable and time.perf_counter() > self.silent_until:
            CONSOLE.print(f"  {self.what}, step {state.global_step} of {state.max_steps}", highlight=False)
            self.silent_until = time.perf_counter() + self.SILENCE

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()
