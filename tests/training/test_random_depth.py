"""Random depth: how many first layers are left out at a step, and training with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.training import AdapterTrainer, RandomDepth, depth_at
from tests.support.attached import bert_classifier
from tests.training.test_trainer import Rows

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def test_every_depth_is_as_likely_as_any_other() -> None:
    steps = 12_000
    for most in (1, 11):
        counts = Counter(depth_at(step, most, seed=3) for step in range(steps))
        assert sorted(counts) == list(range(most + 1))
        expected = steps / (most + 1)
        chi = sum((n - expected) ** 2 / expected for n in counts.values())
        assert chi < {1: 10.83, 11: 31.26}[most]  # one in a thousand of fair draws is further off
    assert [depth_at(n, 11, 1) for n in range(50)] != [depth_at(n, 11, 2) for n in range(50)]
    assert [depth_at(n, 11, 1) for n in range(50)] == [depth_at(n, 11, 1) for n in range(50)]


class Watch(hf.TrainerCallback):
    """What is active at each forward pass of a step, and behind it."""

    def __init__(self, adapters: gw.Adapters) -> None:
        self.adapters, self.inside, self.behind = adapters, [], []
        adapters.model.register_forward_pre_hook(lambda *_: self.inside.append(adapters.active))

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.behind.append(self.adapters.active)


def train(folder: Path, steps: int, depth: RandomDepth, resume: bool = False) -> tuple[gw.Adapters, Watch]:
    adapters = gw.attach(bert_classifier(vocab_size=100, num_hidden_layers=3))
    torch.manual_seed(0)
    adapters.add("a", gw.Pfeiffer(reduction_factor=4))
    adapters.train_only("a")
    watch = Watch(adapters)
    arguments = hf.TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        report_to=[],
        seed=5,
        save_steps=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = AdapterTrainer(adapters.model, arguments, train_dataset=Rows(), callbacks=[depth, watch])
    trainer.train(resume_from_checkpoint=resume)
    return adapters, watch


def test_each_step_trains_at_its_own_depth_and_goes_on_so_after_an_interruption(tmp_path: Path) -> None:
    straight, watch = train(tmp_path / "one", 8, RandomDepth())
    assert watch.inside == [gw.Drop("a", layers=depth_at(step, 2, 5)) for step in range(8)]
    assert watch.behind == ["a"] * 8
    train(tmp_path / "two", 4, RandomDepth())
    resumed, later = train(tmp_path / "two", 8, RandomDepth(), resume=True)
    assert later.inside == watch.inside[4:]
    for key, module in straight.modules_of("a").items():
        for p, q in zip(module.parameters(), resumed.modules_of("a")[key].parameters(), strict=True):
            assert torch.equal(p, q)


def test_a_range_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gw.ConfigError, match="most is 4; the model has 3 layers"):
        train(tmp_path, 1, RandomDepth(most=4))
    adapters = gw.attach(bert_classifier())
    with pytest.raises(gw.ConfigError, match="nothing is active"):
        RandomDepth().on_train_begin(None, None, None, model=adapters.model)  # type: ignore[arg-type]
