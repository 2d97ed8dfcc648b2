"""A training of an adapter whose sites share a tensor: its checkpoints hold that tensor, and resuming is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers as hf

import graftwork as gw
from graftwork.training import AdapterTrainer
from tests.training.test_trainer import TRAINERS, attached, trainer, unequal, weights

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def prepare(adapters: gw.Adapters) -> None:
    adapters.add("a", gw.Compacter(bottleneck_size=4))
    adapters.add("other", gw.Compacter(bottleneck_size=4))
    adapters.train_only("a")


@pytest.mark.parametrize("cls", TRAINERS, ids=lambda c: c.__name__)
def test_resuming_is_as_never_having_stopped(cls: type[hf.Trainer], tmp_path: Path) -> None:
    whole = attached(prepare)
    before = weights(whole)
    trainer(cls, whole, tmp_path).train()
    moved = unequal(weights(whole), before)
    assert "graftwork.shared.n_a.matrices" in moved
    assert not [name for name in moved if "n_other" in name]
    names = [
        name
        for file in (tmp_path / "checkpoint-3").rglob("*.safetensors")
        for name in safetensors.torch.load_file(file)
    ]
    own = {AdapterTrainer: "shared/matrices"}.get(cls, "graftwork.shared.n_a.matrices")  # hf.Trainer writes the whole
    assert names.count(own) == 1
    resumed = attached(prepare)
    run = trainer(cls, resumed, tmp_path)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert run.state.global_step == 6
    assert not unequal(weights(resumed), weights(whole))
    rule = resumed.shared_of("a")
    assert rule is not None
    assert all(module.shared is rule for module in resumed.modules_of("a").values())
    assert not torch.equal(next(rule.parameters()), next(resumed.shared_of("other").parameters()))
