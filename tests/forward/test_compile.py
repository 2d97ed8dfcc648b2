"""torch.compile(fullgraph=True): the same numbers as eager, and a change of the composition is seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import assert_close, bert_classifier, grads, ids, lively
from tests.zoo.models import build, main_output

POOL = gw.Fuse("a", "b", name="ab")
COMPOSITIONS: dict[str, Any] = {
    "none": None,
    "one": "a",
    "stack": gw.Stack("a", "b"),
    "average": gw.Average("a", "b"),
    "fuse": POOL,
    "rows": gw.MixedBatch(["a", None, "b", "a"]),
    "batch split": gw.BatchSplit("a", "b", batch_sizes=[1, 3]),
    "norms": "h",
    "norms by rows": gw.MixedBatch(["h", "a", "k", "h"]),
    "nested": gw.Stack("h", "layer", POOL),
}


@pytest.fixture(autouse=True)
def fresh() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def setup(model: nn.Module | None = None) -> tuple[Any, gw.Adapters, dict[str, Tensor]]:
    model = bert_classifier() if model is None else model
    adapters = gw.attach(model)
    configs = {"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby(), "k": gw.Houlsby(), "layer": gw.BapnaFirat()}
    for n, (name, config) in enumerate(configs.items()):
        adapters.add(name, config)
        lively(adapters, name, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    return model, adapters, {"input_ids": ids(), "attention_mask": torch.ones(4, 7, dtype=torch.long)}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_every_composition_after_one_another(backend: str) -> None:
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch._dynamo.config.patch(recompile_limit=64):
        for turn in range(2):
            for key, composition in COMPOSITIONS.items():
                head = {"head": "a"} if key == "average" else {}
                with torch.no_grad(), adapters.using(composition, **head):
                    expected = model(**inputs).logits
                    torch.testing.assert_close(compiled(**inputs).logits, expected, msg=f"{key}, turn {turn}")


@pytest.mark.parametrize("name", ["llama_causal", "t5_generation", "gpt2"])
def test_other_models(name: str) -> None:
    zoo = build(name)
    model, adapters, _ = setup(zoo.model)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for composition in ("a", gw.Stack("h", POOL)):
        adapters.active = composition
        with torch.no_grad():
            expected = main_output(model(**zoo.inputs))
            torch.testing.assert_close(main_output(compiled(**zoo.inputs)), expected)


@pytest.mark.parametrize("kind", ["lora", "prompt_tuning", "prefix_tuning"])
def test_adapters_of_peft(kind: str) -> None:
    """Around the base's layers, in front of the tokens, and in front of every attention: alone, with ours, and gone again."""
    peft = pytest.importorskip("peft")
    configs = {
        "lora": lambda: peft.LoraConfig(r=4, lora_dropout=0.0, target_modules=["query", "value"]),
        "prompt_tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"),
        "prefix_tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="SEQ_CLS"),
    }
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    adapters.add("x", configs[kind]())
    lively(adapters, "x", seed=9)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    found = []
    for composition in ("x", gw.Stack("x", "a"), None):
        with torch.no_grad(), adapters.using(composition):
            found.append(model(**inputs).logits)
            torch.testing.assert_close(compiled(**inputs).logits, found[-1])
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[0], found[2])


@pytest.mark.slow
def test_inductor() -> None:
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    compiled = torch.compile(model, fullgraph=True)
    adapters.active = gw.Stack("h", POOL)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_folded_weights_stay_as_they_are() -> None:
    model, adapters, inputs = setup()
    adapters.active = POOL
    with torch.no_grad():
        expected = model(**inputs).logits
    assert adapters.fold() == 2
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
        lively(adapters, "a", seed=9)
        torch.testing.assert_close(compiled(**inputs).logits[:, 0], expected[:, 0], rtol=1e-4, atol=1e-4)
        adapters.active = POOL
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_changed_weights_are_seen() -> None:
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for composition in ("a", POOL, gw.MixedBatch(["a", "b", "a", None])):
        adapters.active = composition
        with torch.no_grad():
            first = compiled(**inputs).logits
            lively(adapters, "a", seed=5)
            second = compiled(**inputs).logits
            assert not torch.equal(first, second)
            torch.testing.assert_close(second, model(**inputs).logits)


@pytest.mark.parametrize("key", ["one", "fuse", "rows", "norms", "nested"])
def test_a_training_step(key: str) -> None:
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    adapters.train_only(["a", "b", "h", "k", "layer", "ab"], active=COMPOSITIONS[key])
    model.train()
    inputs["labels"] = torch.tensor([0, 2, 1, 1])
    expected = model(**inputs).loss
    expected.backward()
    plain = grads(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    loss = compiled(**inputs).loss
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert_close(plain, grads(model), rtol=1e-4, atol=1e-5)


def test_heads_with_other_labels() -> None:
    model, adapters, inputs = setup(bert_classifier(num_hidden_layers=1))
    adapters.add_head("a", 5)
    lively(adapters, "a")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for name, classes in (("a", 5), ("b", 3), ("a", 5)):
        adapters.active = name
        with torch.no_grad():
            found = compiled(**inputs).logits
            assert found.shape == (4, classes)
            torch.testing.assert_close(found, model(**inputs).logits)
    inputs["labels"] = torch.tensor([0, 4, 3, 1])
    expected = model(**inputs).loss
    before = (dict(model.config.id2label), model.num_labels, model.config.problem_type)
    torch.testing.assert_close(torch.compile(model, backend="eager")(**inputs).loss, expected)
    assert (dict(model.config.id2label), model.num_labels, model.config.problem_type) == before
    with adapters.using("b"):
        labels = torch.tensor([0, 2, 2, 1])
        found = torch.compile(model, backend="eager")(input_ids=inputs["input_ids"], labels=labels).loss
        torch.testing.assert_close(found, model(input_ids=inputs["input_ids"], labels=labels).loss)
    assert (dict(model.config.id2label), model.num_labels, model.config.problem_type) == before
    adapters.active = "b"
    inputs["labels"] = torch.tensor([0, 2, 2, 1])
    torch.testing.assert_close(torch.compile(model, backend="eager")(**inputs).loss, model(**inputs).loss)


def test_batches_of_every_size() -> None:
    model, adapters, _ = setup()
    adapters.active = "a"
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for rows in range(1, 11):
            inputs = {"input_ids": ids(rows, 5 + rows % 4)}
            torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_what_becomes_active_after_compiling_is_seen(name: str) -> None:
    """Where the graph breaks each block is compiled by itself, and a plan's hooks come when it is made."""
    zoo = build(name)
    adapters = gw.attach(zoo.model)
    adapters.add("p", gw.Pfeiffer(bottleneck_size=4))
    adapters.add("l", gw.LoRA(targets=["query", "q_proj"]))
    compiled = torch.compile(zoo.model, backend="eager")
    with torch.no_grad():
        plain = main_output(compiled(**zoo.inputs))
        for name in ("p", "l"):
            lively(adapters, name)
        for active in ("p", "l", gw.Stack("p", "l"), None):
            adapters.active = active
            expected = main_output(zoo.model(**zoo.inputs))
            torch.testing.assert_close(main_output(compiled(**zoo.inputs)), expected)
            assert torch.equal(expected, plain) is (active is None)


def test_using_around_a_compiled_model() -> None:
    model, adapters, inputs = setup()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        for composition in ("a", "b", None, "a"):
            with adapters.using(composition):
                torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)
        plain = model(**inputs).logits
        torch.testing.assert_close(compiled(**inputs).logits, plain)


def test_a_part_compiled_after_attaching() -> None:
    model, adapters, inputs = setup()
    adapters.active = gw.Stack("h", POOL)
    with torch.no_grad():
        expected = model(**inputs).logits
        for layer in model.bert.encoder.layer:
            layer.compile(backend="eager", fullgraph=True)
        torch.testing.assert_close(model(**inputs).logits, expected)
        adapters.active = "a"
        found = model(**inputs).logits
    assert not torch.equal(found, expected)
    assert gw.attach(model) is adapters


def test_a_copy_is_compiled() -> None:
    model, adapters, inputs = setup()
    adapters.active = gw.Stack("h", POOL)
    with torch.no_grad():
        expected = model(**inputs).logits
        other = copy.deepcopy(model)
        torch.testing.assert_close(torch.compile(other, backend="eager", fullgraph=True)(**inputs).logits, expected)


def test_batch_norms_of_a_frozen_base_stand_still() -> None:
    model, adapters, inputs = setup()
    model.dropout = nn.BatchNorm1d(32)
    adapters.detach()
    model, adapters, inputs = setup(model)
    adapters.train_only("a")
    model.train()
    before = {k: v.clone() for k, v in model.dropout.state_dict().items()}
    torch.compile(model, backend="eager", fullgraph=True)(**inputs).logits.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.dropout.state_dict().items())
    adapters.detach()
    assert model.dropout.training
