"""Several adapters learnt at once are those learnt one after another."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertModel

import graftwork as gw
from graftwork.errors import TrainingError
from graftwork.experiments import Unit
from graftwork.experiments.running.arguments import make_trainer
from graftwork.tasks import Task, TaskSpec
from graftwork.training import Learner, train_together
from graftwork.training.budget import StageBudget
from graftwork.training.encoding import Encoded
from graftwork.training.ranks import Ranks
from graftwork.training.together import merged
from tests.support.tiny_run import WORDS, make_base

COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_base(folder)
    return folder


def rows(kind: str, count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    texts = [[draw.choice(WORDS) for _ in range(draw.randint(3, 9))] for _ in range(count)]
    if kind == "tagging":
        return [{"tokens": t, "tags": ["B-X" if w in ("film", "actor") else "O" for w in t]} for t in texts]
    return [{"text": " ".join(t), "label": COLOURS[len(set(t)) % 3]} for t in texts]


def learners(base: Path, **changes: Any) -> list[Learner]:
    """Three tasks: other numbers of rows, other kinds, other budgets, other seeds."""
    processor = AutoTokenizer.from_pretrained(base)
    budgets = {
        "a": StageBudget(epochs=4, batch_size=8, learning_rate=3e-3, max_grad_norm=0.05, patience=None),
        "b": StageBudget(
            epochs=2, batch_size=12, learning_rate=1e-2, schedule="cosine", weight_decay=0.3, patience=None
        ),
        "c": StageBudget(epochs=3, batch_size=5, learning_rate=5e-3, warmup=0.5, patience=1),
    }
    found = []
    for n, (name, budget) in enumerate(budgets.items()):
        kind = "tagging" if name == "b" else "classification"
        spec = TaskSpec(kind="tagging" if name == "b" else "classification", data="-")
        task = Task.from_rows(name, spec, rows(kind, 40 - 7 * n, n), dev=rows(kind, 12, 50 + n))
        found.append(Learner(name, Encoded(task, processor, 16), budget.model_copy(update=changes), seed=n))
    return found


ADAPTER = gw.Pfeiffer(bottleneck_size=4, dtype="float64")
# With a loss of its own, and without noise: what is drawn for three is not what is drawn for one.
MIXTURE = gw.MoE(bottleneck_size=4, experts=3, noise=False, importance=1.0, dtype="float64")


def model(
    base: Path,
    names: list[str],
    given: list[Learner],
    dropout: float = 0.0,
    config: gw.AdapterConfig = ADAPTER,
) -> gw.Adapters:
    """A fresh base in float64 with those adapters, each drawn by its own seed."""
    bert = BertModel.from_pretrained(base, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout).double()
    adapters = gw.attach(gw.ModelWithHeads(bert))
    for learner in given:
        if learner.name in names:
            torch.manual_seed(learner.seed)
            adapters.add(learner.name, config)
            adapters.add_head(learner.name, learner.encoded.task.head())
            for module in adapters.head_of(learner.name).values():
                module.double()
    return adapters


def state(adapters: gw.Adapters, name: str) -> dict[str, torch.Tensor]:
    modules = {**adapters.modules_of(name), **adapters.head_of(name)}
    return {f"{key}/{n}": p.detach().clone() for key, m in modules.items() for n, p in m.named_parameters()}


@pytest.mark.parametrize("config", [ADAPTER, MIXTURE], ids=["pfeiffer", "moe"])
def test_each_comes_out_as_if_trained_alone(base: Path, tmp_path: Path, config: gw.AdapterConfig) -> None:
    """Against the Trainer that a recipe uses, in float64; 20 steps and more for each."""
    files: Any = SimpleNamespace(run=tmp_path, ranks=Ranks(), folder=lambda unit: unit.folder(tmp_path))
    all_at_once = learners(base)
    adapters = model(base, ["a", "b", "c"], all_at_once, config=config)
    scores = train_together(adapters, all_at_once)
    for learner in learners(base):
        alone = model(base, [learner.name], [learner], config=config)
        alone.train_only(learner.name)
        unit = Unit("adapter", learner.name, learner.seed)
        trainer = make_trainer(unit, files, learner.budget, alone, learner.encoded, [])
        trainer.train()
        expected, found = state(alone, learner.name), state(adapters, learner.name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert value.dtype is torch.float64
            assert float((found[key] - value).abs().max()) < 1e-9, (learner.name, key)
        assert trainer.measure(learner.encoded.task.dev)[0] == pytest.approx(scores[learner.name], abs=1e-12)
        assert trainer.state.global_step == next(o.steps for o in all_at_once if o.name == learner.name)


def test_the_others_change_nothing(base: Path) -> None:
    """With dropout off, to rounding: the other adapters of the pass are not seen in it."""
    three, two = learners(base), learners(base)[:2]
    first, second = model(base, ["a", "b", "c"], three), model(base, ["a", "b"], two)
    train_together(first, three)
    train_together(second, two)
    for key, value in state(first, "a").items():
        assert float((state(second, "a")[key] - value).abs().max()) < 1e-9, key


def test_interrupted_it_goes_on_to_the_same_weights(base: Path, tmp_path: Path) -> None:
    """Interrupted at the end of any epoch, the dropout on."""

    class Interrupted(Exception):
        pass

    whole = learners(base)
    expected = model(base, ["a", "b", "c"], whole, dropout=0.1)
    ends: list[tuple[str, int]] = []
    train_together(expected, whole, seed=4, on_epoch=lambda learner, epoch, score: ends.append((learner.name, epoch)))
    assert len(ends) > 4
    for stop in (ends[1], ends[-2]):
        folder = tmp_path / f"{stop[0]}{stop[1]}"

        def interrupt(learner: Learner, epoch: int, score: float, stop: tuple[str, int] = stop) -> None:
            if (learner.name, epoch) == stop:
                raise Interrupted

        begun = learners(base)
        with pytest.raises(Interrupted):
            train_together(
                model(base, ["a", "b", "c"], begun, dropout=0.1), begun, seed=4, folder=folder, on_epoch=interrupt
            )
        again = learners(base)
        adapters = model(base, ["a", "b", "c"], again, dropout=0.1)
        with torch.no_grad():  # what was drawn anew is replaced by what was learnt
            for module in adapters.modules_of("a").values():
                for p in module.parameters():
                    p.add_(1)
        assert (folder / "together.pt").is_file()
        train_together(adapters, again, seed=4, folder=folder)
        for name in ("a", "b", "c"):
            for key, value in state(expected, name).items():
                assert torch.equal(state(adapters, name)[key], value), (stop, name, key)
        for mine, other in zip(again, whole, strict=True):
            assert (mine.steps, mine.scores, mine.losses) == (other.steps, other.scores, other.losses)


def test_one_that_has_run_out_stops_and_the_rest_go_on(base: Path) -> None:
    given = learners(base)
    given[2].budget = given[2].budget.model_copy(update={"epochs": 30, "patience": 1, "learning_rate": 1e-9})
    train_together(model(base, ["a", "b", "c"], given), given)
    assert len(given[2].scores) == 2
    assert [len(learner.scores) for learner in given[:2]] == [4, 2]
    for learner in given:
        assert learner.steps == len(learner.scores) * learner.steps_an_epoch


def test_batches_are_filled_up_to_the_longest() -> None:
    short = {"input_ids": torch.ones(2, 3), "labels": torch.zeros(2, 3)}
    long = {"input_ids": torch.ones(1, 5), "labels": torch.tensor([2])}
    inputs, labels = merged({"s": short, "l": long}, {"input_ids": 7})
    assert inputs["input_ids"].tolist() == [[1, 1, 1, 7, 7]] * 2 + [[1] * 5]
    assert labels["s"].tolist() == [[0, 0, 0, -100, -100]] * 2
    assert labels["l"].tolist() == [2]


def test_what_cannot_learn_in_one_pass_is_refused(base: Path) -> None:
    given = learners(base)
    adapters = model(base, ["a", "b", "c"], given)
    with pytest.raises(TrainingError, match="nothing to train"):
        train_together(adapters, [])
    with pytest.raises(TrainingError, match="'a' learns twice"):
        train_together(adapters, [given[0], given[0]])
    with pytest.raises(TrainingError, match="accumulation is 2"):
        train_together(adapters, learners(base, accumulation=2))
    mixed = learners(base)
    mixed[1].budget = mixed[1].budget.model_copy(update={"bf16": True})
    with pytest.raises(TrainingError, match="bf16 differs"):
        train_together(adapters, mixed)
    with pytest.raises(TrainingError, match="pixel_values for the other"):
        merged({"a": {"input_ids": torch.ones(1, 2)}, "b": {"pixel_values": torch.ones(1, 3, 4, 4)}}, {})


def test_a_loss_that_is_not_a_number_stops_it(base: Path) -> None:
    given = learners(base)[:1]
    adapters = model(base, ["a"], given)
    with torch.no_grad():
        next(next(iter(adapters.head_of("a").values())).parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="'a': the loss is nan at step 1"):
        train_together(adapters, given)


def test_a_checkpoint_of_other_adapters_is_refused(base: Path, tmp_path: Path) -> None:
    given = learners(base)[:2]
    train_together(model(base, ["a", "b"], given), given, folder=tmp_path)
    others = learners(base)
    with pytest.raises(TrainingError, match="is of a, b; train the same adapters"):
        train_together(model(base, ["a", "b", "c"], others), others, folder=tmp_path)
