"""Trainer and AdapterTrainer: checkpoints, resuming exactly, the best model at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import graftwork as gw
from graftwork.training import AdapterCallback, AdapterTrainer
from tests.zoo.models import build

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")
TRAINERS = [AdapterTrainer, hf.Trainer]
Prepare = Callable[[gw.Adapters], None]


class Rows(torch.utils.data.Dataset):
    """Sixteen rows of tokens; the label is the first token's remainder by three."""

    def __init__(self, seed: int = 0) -> None:
        tokens = torch.randint(2, 100, (16, 9), generator=torch.Generator().manual_seed(seed))
        self.rows = [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row[0] % 3} for row in tokens]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        return self.rows[n]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = hf.utils.logging.get_verbosity()
    hf.utils.logging.set_verbosity_error()
    yield
    hf.utils.logging.set_verbosity(before)


def one_adapter(adapters: gw.Adapters) -> None:
    adapters.add("a", gw.Houlsby(bottleneck_size=4, norms="own"))
    adapters.add("other", gw.Pfeiffer())
    adapters.train_only("a")


def other_labels(adapters: gw.Adapters) -> None:
    one_adapter(adapters)
    adapters.add_head("a", 4)
    adapters.train_only("a")


def a_fusion(adapters: gw.Adapters) -> None:
    for name in ("a", "b"):
        adapters.add(name, gw.Pfeiffer(reduction_factor=4))
    pool = gw.Fuse("a", "b", name="mix")
    adapters.add_fusion(pool, gw.FusionConfig(temperature=5.0, temperature_steps=8, dropout=0.1))
    adapters.train_only(pool)


def on_top(adapters: gw.Adapters) -> None:
    adapters.add("en", gw.Pfeiffer())
    adapters.add("ner", gw.Pfeiffer(dropout=0.2))
    adapters.train_only("ner", active=gw.Stack("en", "ner"))


def with_norms(adapters: gw.Adapters) -> None:
    adapters.add("a", gw.Pfeiffer())
    adapters.train_only("a", base="norms")


def with_base(adapters: gw.Adapters) -> None:
    adapters.add("a", gw.Pfeiffer())
    adapters.train_only("a", base="trained")


def head_alone(adapters: gw.Adapters) -> None:
    adapters.train_only(None)


PREPARED = [one_adapter, other_labels, a_fusion, on_top, with_norms, with_base, head_alone]


def attached(prepare: Prepare) -> gw.Adapters:
    """A fresh process's model: same base, adapters begun from the same seed."""
    adapters = gw.attach(build("bert_classifier").model)
    torch.manual_seed(11)
    prepare(adapters)
    return adapters


def trainer(cls: type[hf.Trainer], adapters: gw.Adapters, folder: Path, **options: Any) -> hf.Trainer:
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "learning_rate": 0.05,
        "logging_steps": 1,
        "save_steps": 3,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 3,
        "lr_scheduler_type": "linear",
    }
    callbacks = [AdapterCallback()] if cls is hf.Trainer else None
    rows, more = Rows(), Rows(1)
    arguments = hf.TrainingArguments(**{**defaults, **options})
    return cls(model=adapters.model, args=arguments, train_dataset=rows, eval_dataset=more, callbacks=callbacks)


def weights(adapters: gw.Adapters) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in adapters.model.state_dict().items()}


def unequal(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    return [n for n in one.keys() | other.keys() if n not in one or n not in other or not torch.equal(one[n], other[n])]


@pytest.mark.parametrize("prepare", PREPARED, ids=lambda p: p.__name__)
@pytest.mark.parametrize("cls", TRAINERS, ids=lambda c: c.__name__)
def test_resuming_is_as_never_having_stopped(cls: type[hf.Trainer], prepare: Prepare, tmp_path: Path) -> None:
    straight = attached(prepare)
    before = weights(straight)
    trainer(cls, straight, tmp_path / "straight").train()
    moved = unequal(weights(straight), before)
    assert moved, "nothing was learnt"

    stopped = attached(prepare)
    trainer(cls, stopped, tmp_path / "resumed").train()
    checkpoint = tmp_path / "resumed" / "checkpoint-3"
    resumed = attached(prepare)
    run = trainer(cls, resumed, tmp_path / "resumed")
    run.train(resume_from_checkpoint=str(checkpoint))
    assert run.state.global_step == 6
    assert not unequal(weights(resumed), weights(straight))
    frozen = [n for n in before if n not in moved]
    assert any("query.weight" in n for n in frozen) or prepare is with_base


@pytest.mark.parametrize("prepare", PREPARED, ids=lambda p: p.__name__)
def test_a_checkpoint_holds_what_learns_and_no_base(prepare: Prepare, tmp_path: Path) -> None:
    adapters = attached(prepare)
    trainer(AdapterTrainer, adapters, tmp_path, max_steps=1, save_steps=1).train()
    checkpoint = tmp_path / "checkpoint-1"
    names = {p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()}
    assert not names & {"model.safetensors", "pytorch_model.bin", "adapter_config.json", "adapter_model.safetensors"}
    assert {"optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin"} <= names
    assert ("graftwork_base.safetensors" in names) == (prepare in (with_norms, with_base, head_alone))
    if adapters.trainable:
        manifest = json.loads((checkpoint / "graftwork" / "graftwork.json").read_text())
        assert (*manifest["adapters"], *manifest["fusions"]) == adapters.trainable


def test_a_checkpoint_is_a_folder_to_load(tmp_path: Path) -> None:
    adapters = attached(on_top)
    run = trainer(AdapterTrainer, adapters, tmp_path)
    run.train()
    adapters.save("en", tmp_path / "en")
    zoo = build("bert_classifier")
    fresh = gw.attach(zoo.model)
    with pytest.raises(gw.UnknownNameError, match="needs 'en'"):
        fresh.load(tmp_path / "checkpoint-6" / "graftwork")
    fresh.load(tmp_path / "en")
    fresh.active = fresh.load(tmp_path / "checkpoint-6" / "graftwork")
    assert fresh.active == gw.Stack("en", "ner")
    adapters.model.eval()
    assert torch.equal(zoo.model(**zoo.inputs).logits, adapters.model(**zoo.inputs).logits)


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused"])
@pytest.mark.parametrize("cls", TRAINERS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("prepare", [one_adapter, other_labels, a_fusion, head_alone], ids=lambda p: p.__name__)
def test_the_best_model_at_the_end(cls: type[hf.Trainer], prepare: Prepare, optimizer: str, tmp_path: Path) -> None:
    """The last checkpoint is a bad one: from the fifth step on the learning rate is huge."""
    adapters = attached(prepare)
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": True}
    run = trainer(cls, adapters, tmp_path, optim=optimizer, learning_rate=0.05, **options)
    run.create_optimizer()
    run.create_scheduler = lambda *_, **__: _spoil_the_end(run)  # type: ignore[method-assign]
    run.train()
    losses = {e["step"]: e["eval_loss"] for e in run.state.log_history if "eval_loss" in e}
    best = min(losses, key=losses.__getitem__)
    assert best != 6 and str(run.state.best_model_checkpoint).endswith(f"checkpoint-{best}")
    assert run.evaluate()["eval_loss"] == pytest.approx(losses[best], abs=1e-6)


def _spoil_the_end(run: hf.Trainer) -> torch.optim.lr_scheduler.LRScheduler:
    run.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda step: 1.0 if step < 4 else 400.0)
    return run.lr_scheduler


@pytest.mark.parametrize(
    ("prepare", "optimizer"),
    [
        (one_adapter, "adamw_torch"),
        (one_adapter, "adamw_torch_fused"),
        (a_fusion, "adamw_torch"),
        (a_fusion, "adamw_torch_fused"),
    ],
)
def test_evaluating_between_steps_sees_the_weights_as_they_are(
    prepare: Prepare, optimizer: str, tmp_path: Path
) -> None:
    adapters = attached(prepare)
    options = {"optim": optimizer, "eval_strategy": "steps", "eval_steps": 2}
    run = trainer(AdapterTrainer, adapters, tmp_path, learning_rate=0.3, **options)
    run.train()
    last = [e["eval_loss"] for e in run.state.log_history if "eval_loss" in e][-1]
    fresh = attached(prepare)
    fresh.model.load_state_dict(adapters.model.state_dict())
    assert trainer(AdapterTrainer, fresh, tmp_path).evaluate()["eval_loss"] == last


@pytest.mark.parametrize("cls", TRAINERS, ids=lambda c: c.__name__)
def test_the_temperature_falls_by_steps_of_the_optimiser(cls: type[hf.Trainer], tmp_path: Path) -> None:
    adapters = attached(a_fusion)
    trainer(cls, adapters, tmp_path, max_steps=4, gradient_accumulation_steps=2, per_device_train_batch_size=2).train()
    assert {int(m.temperature_step) for m in adapters.modules_of("mix").values()} == {4}
    assert {float(m.temperature) for m in adapters.modules_of("mix").values()} == {3.0}


def test_a_plain_trainers_checkpoint_is_resumed_by_ours(tmp_path: Path) -> None:
    straight = attached(one_adapter)
    trainer(hf.Trainer, straight, tmp_path).train()
    resumed = attached(one_adapter)
    trainer(AdapterTrainer, resumed, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert not unequal(weights(resumed), weights(straight))


def test_what_learns_otherwise_is_not_resumed(tmp_path: Path) -> None:
    adapters = attached(one_adapter)
    trainer(AdapterTrainer, adapters, tmp_path, max_steps=3).train()
    checkpoint = str(tmp_path / "checkpoint-3")

    def resuming(prepare: Prepare, match: str, error: type[Exception] = gw.CheckpointError) -> None:
        fresh = attached(prepare)
        before = weights(fresh)
        with pytest.raises(error, match=match):
            trainer(AdapterTrainer, fresh, tmp_path).train(resume_from_checkpoint=checkpoint)
        assert not unequal(weights(fresh), before)

    def wider(adapters: gw.Adapters) -> None:
        adapters.add("a", gw.Houlsby(bottleneck_size=8, norms="own"))
        adapters.train_only("a")

    def renamed(adapters: gw.Adapters) -> None:
        adapters.add("b", gw.Houlsby(bottleneck_size=4, norms="own"))
        adapters.train_only("b")

    def both(adapters: gw.Adapters) -> None:
        one_adapter(adapters)
        adapters.train_only(gw.Stack("a", "other"))

    def norms_too(adapters: gw.Adapters) -> None:
        one_adapter(adapters)
        adapters.train_only("a", base="norms")

    resuming(wider, "configured otherwise than the 'a'")
    resuming(renamed, "is not on this model", gw.UnknownNameError)
    resuming(both, r"holds \['a'\], and \['a', 'other'\] learn now")
    resuming(norms_too, "graftwork_base.safetensors does not fit: missing: bert.embeddings.LayerNorm")
    resuming(head_alone, "missing: classifier.weight")
    resuming(other_labels, r"misshapen: head/classifier/weight is \(3, 32\), not \(4, 32\)")


def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path) -> None:
    adapters = attached(with_norms)
    trainer(AdapterTrainer, adapters, tmp_path, max_steps=3).train()
    rest = tmp_path / "checkpoint-3" / "graftwork_base.safetensors"
    rest.write_bytes(rest.read_bytes()[:-10])
    fresh = attached(with_norms)
    before = weights(fresh)
    with pytest.raises(gw.CheckpointError, match=r"graftwork_base\.safetensors is damaged or cut short"):
        trainer(AdapterTrainer, fresh, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert not unequal(weights(fresh), before)


def test_a_model_without_adapters_is_refused(tmp_path: Path) -> None:
    arguments = hf.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(gw.AttachError, match="nothing is attached"):
        AdapterTrainer(model=build("bert_classifier").model, args=arguments)


def test_save_pretrained_and_back(tmp_path: Path) -> None:
    """The whole model as transformers writes it: base and adapters in one file, the base readable by anyone."""
    adapters = attached(one_adapter)
    adapters.model.save_pretrained(tmp_path)
    plain = hf.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    base = build("bert_classifier").model.state_dict()
    assert not unequal(dict(plain.state_dict()), dict(base))
    whole = attached(one_adapter)
    for p in whole.model.parameters():
        p.data.zero_()
    from safetensors.torch import load_file

    whole.model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert not unequal(weights(whole), weights(adapters))


def test_save_model(tmp_path: Path) -> None:
    adapters = attached(one_adapter)
    run = trainer(AdapterTrainer, adapters, tmp_path)
    for _ in range(2):
        run.save_model(str(tmp_path / "final"))
    fresh = gw.attach(build("bert_classifier").model)
    assert fresh.load(tmp_path / "final" / "graftwork") == "a"
    assert not unequal(
        {n: t for m in fresh.modules_of("a").values() for n, t in m.state_dict().items()},
        {n: t for m in adapters.modules_of("a").values() for n, t in m.state_dict().items()},
    )
