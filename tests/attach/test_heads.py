"""Heads: every adapter owns a copy of the model's, used when it is named; what belongs to the base stays there."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import SMALL, bert_classifier, grads, ids, lively, made, output, stir
from tests.zoo.models import build


def roberta_classifier() -> Any:
    config = hf.RobertaConfig(**SMALL, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return made(hf.RobertaForSequenceClassification, config)


def masked_lm(tied: bool = True) -> Any:
    return made(hf.BertForMaskedLM, hf.BertConfig(**SMALL, tie_word_embeddings=tied))


def t5() -> Any:
    return build("t5_generation").model


def gpt2() -> Any:
    config = hf.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    return made(hf.GPT2LMHeadModel, config)


def two(model: Any, **heads: Any) -> gw.Adapters:
    adapters = gw.attach(model)
    for n, name in enumerate(("a", "b")):
        adapters.add(name, gw.Pfeiffer())
        if name in heads:
            adapters.add_head(name, heads[name])
        lively(adapters, name, seed=n + 1)
    return adapters


def labels_of(model: Any) -> tuple[Any, ...]:
    config = model.config
    return dict(config.id2label), dict(config.label2id), config.problem_type, config.num_labels, model.num_labels


@pytest.mark.parametrize("make", [bert_classifier, roberta_classifier])
def test_each_adapter_has_a_head_of_its_own(make: Any) -> None:
    model = make()
    inputs = {"input_ids": ids()}
    adapters = gw.attach(model)
    assert adapters.head_paths == ("classifier",)
    adapters.add("a", gw.Pfeiffer(init="zero"))
    adapters.add("b", gw.Pfeiffer(init="zero"))
    plain = output(model, inputs)
    for name in ("a", "b"):
        with adapters.using(name):
            assert torch.equal(output(model, inputs), plain)  # a copy of the model's own
    stir(adapters.head_of("a").values())
    with adapters.using("a"):
        mine = output(model, inputs)
    assert not torch.equal(mine, plain)
    with adapters.using("b"):
        assert torch.equal(output(model, inputs), plain)
    with adapters.using("b", head="a"):
        assert torch.equal(output(model, inputs), mine)
    with adapters.using("a", head=None):
        assert torch.equal(output(model, inputs), plain)
    with adapters.using(None, head="a"):
        assert torch.equal(output(model, inputs), mine)
    with pytest.raises(gw.UnknownNameError, match="head"), adapters.using("a", head="c"):
        raise AssertionError
    assert torch.equal(output(model, inputs), plain)


@pytest.mark.parametrize("make", [bert_classifier, roberta_classifier])
def test_different_numbers_of_labels(make: Any) -> None:
    model = make()
    adapters = two(model, a=5, b=["no", "yes"])
    assert adapters.labels("a") == gw.Labels(tuple(f"LABEL_{n}" for n in range(5)))
    before = labels_of(model)
    inputs = {"input_ids": ids()}
    for name, labels in (("a", torch.tensor([0, 4, 3, 1])), ("b", torch.tensor([0, 1, 1, 0]))):
        with adapters.using(name):
            found = model(**inputs, labels=labels)
            logits = output(model, inputs)
        assert found.logits.shape == (4, 5 if name == "a" else 2)
        torch.testing.assert_close(found.loss, nn.functional.cross_entropy(logits, labels))
        assert labels_of(model) == before
    assert adapters.labels("b") == gw.Labels(("no", "yes"), "single_label_classification")
    with adapters.using("a", head="b"):
        assert model(**inputs, labels=torch.tensor([0, 1, 1, 0])).logits.shape == (4, 2)
    with adapters.using("a", head=None):
        assert model(**inputs, labels=torch.tensor([2, 1, 1, 0])).logits.shape == (4, 3)
        model.config.problem_type = "multi_label_classification"  # the user's own
        many = torch.tensor([[0.0, 1.0, 1.0]] * 4)
        found = model(**inputs, labels=many)
        torch.testing.assert_close(found.loss, nn.functional.binary_cross_entropy_with_logits(found.logits, many))


def test_regression_beside_classification() -> None:
    model = bert_classifier()
    adapters = two(model, a=1)
    before = labels_of(model)
    inputs = {"input_ids": ids()}
    scores = torch.tensor([0.5, 1.5, -1.0, 2.0])
    for _ in range(2):
        with adapters.using("a"):
            found = model(**inputs, labels=scores)
        torch.testing.assert_close(found.loss, nn.functional.mse_loss(found.logits.squeeze(), scores))
        assert labels_of(model) == before
    assert adapters.labels("a") == gw.Labels(("LABEL_0",), "regression")
    with adapters.using("b"):
        model(**inputs, labels=torch.tensor([2, 1, 1, 0]))


def test_the_configuration_is_restored_when_the_forward_raises() -> None:
    model = bert_classifier()
    adapters = two(model, a=5)
    before = labels_of(model)
    with adapters.using("a"), pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids(), labels=torch.tensor([7, 0, 0, 0]))
    assert labels_of(model) == before
    handle = model.bert.encoder.register_forward_hook(interrupt)
    with adapters.using("a"), pytest.raises(KeyboardInterrupt):
        model(input_ids=ids(), labels=torch.tensor([1, 0, 0, 0]))
    handle.remove()
    with adapters.using("b"):
        output(model, {"input_ids": ids()})
    assert labels_of(model) == before


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_threads_with_different_labels_at_once() -> None:
    model = bert_classifier()
    adapters = two(model, a=5, b=2)
    cases: list[tuple[str | None, Tensor]] = [
        ("a", torch.tensor([0, 4, 3, 1])),
        ("b", torch.tensor([0, 1, 1, 0])),
        ("a", torch.tensor([3, 3, 4, 1])),
    ]
    alone = []
    for name, labels in cases:
        with adapters.using(name), torch.no_grad():
            alone.append(model(input_ids=ids(), labels=labels).loss)
    wrong: list[Any] = []

    def rounds(n: int) -> None:
        for _ in range(20):
            with adapters.using(cases[n][0]), torch.no_grad():
                if not torch.equal(model(input_ids=ids(), labels=cases[n][1]).loss, alone[n]):
                    wrong.append(n)

    threads = [threading.Thread(target=rounds, args=(n,)) for n in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_by_rows() -> None:
    model = bert_classifier()
    adapters = two(model)
    inputs = {"input_ids": ids()}
    alone = {}
    for name in ("a", "b", None):
        with adapters.using(name):
            alone[name] = output(model, inputs)
    rows: list[str | None] = ["b", None, "a", "b"]
    expected = torch.stack([alone[name][row] for row, name in enumerate(rows)])
    with adapters.using(gw.MixedBatch(rows)):
        torch.testing.assert_close(output(model, inputs), expected)
        labels = torch.tensor([0, 2, 1, 1])
        torch.testing.assert_close(
            model(**inputs, labels=labels).loss.detach(), nn.functional.cross_entropy(expected, labels)
        )
    with adapters.using(gw.BatchSplit("b", "a", batch_sizes=[1, 3])):
        torch.testing.assert_close(output(model, inputs), torch.cat([alone["b"][:1], alone["a"][1:]]))
    with adapters.using(gw.Replicate("a", "b")):
        torch.testing.assert_close(output(model, inputs), torch.cat([alone["a"], alone["b"]]))


def test_by_rows_with_other_numbers_of_labels() -> None:
    model = bert_classifier()
    adapters = two(model, a=5, b=5)
    adapters.add("c", gw.Pfeiffer())
    inputs = {"input_ids": ids()}
    with adapters.using("a"):
        alone = output(model, inputs)
    with adapters.using(gw.MixedBatch(["a", "b", "a", "b"])):
        found = output(model, inputs)
        assert found.shape == (4, 5)
        torch.testing.assert_close(found[::2], alone[::2])
        labels = torch.tensor([0, 4, 3, 4])  # labels that the model's own head does not have
        loss = model(**inputs, labels=labels).loss
        torch.testing.assert_close(loss.detach(), nn.functional.cross_entropy(found, labels))
    for rows in (["a", "c", "a", "b"], ["a", "b", None, "b"]):
        with adapters.using(gw.MixedBatch(rows)), pytest.raises(gw.CompositionError, match="equally many labels"):
            output(model, inputs)
    with adapters.using(gw.MixedBatch(["a", "c", "a", None]), head="a"):
        torch.testing.assert_close(output(model, inputs)[::2], alone[::2])


def test_stack_fuse_and_average() -> None:
    model = bert_classifier()
    adapters = two(model, b=5)
    inputs = {"input_ids": ids()}
    with adapters.using(gw.Stack("a", "b")):
        assert output(model, inputs).shape == (4, 5)
    with adapters.using(gw.Stack("b", "a")):
        assert output(model, inputs).shape == (4, 3)
    pool = gw.Fuse("a", "b", name="ab")
    adapters.add_fusion(pool)
    with adapters.using(pool):
        assert output(model, inputs).shape == (4, 3)  # a head of its own, like the model's
    adapters.remove(pool)
    adapters.add_fusion(pool, head_from="b")
    with adapters.using(pool):
        five = output(model, inputs)
        assert five.shape == (4, 5)
        model(**inputs, labels=torch.tensor([0, 4, 3, 1]))
    with adapters.using(gw.Stack("a", pool)):
        assert output(model, inputs).shape == (4, 5)
    with pytest.raises(gw.CompositionError, match=r"using\(composition, head='a'\)"):
        adapters.active = gw.Average("a", "b")
    with adapters.using(gw.Average("a", "b"), head="b"):
        assert output(model, inputs).shape == (4, 5)
    with adapters.using(gw.Average("a", "b"), head=None):
        assert output(model, inputs).shape == (4, 3)
    with adapters.using(gw.Average("a", "a")):
        assert output(model, inputs).shape == (4, 3)


def test_a_head_of_the_users_own() -> None:
    model = bert_classifier()
    adapters = two(model, b=nn.Sequential(nn.Linear(32, 4), nn.Tanh(), nn.Linear(4, 2)))
    with adapters.using("b"):
        assert output(model, {"input_ids": ids()}).shape == (4, 2)
    for wrong in ([], 0, ["x", "x"], {"other": nn.Linear(32, 2)}):
        with pytest.raises(gw.ConfigError):
            adapters.add_head("a", wrong)
    with pytest.raises(gw.UnknownNameError):
        adapters.add_head("c", 3)
    with pytest.raises(gw.ConfigError, match="no head"):
        without = gw.attach(build("bert").model)
        without.add("a", gw.Pfeiffer())
        without.add_head("a", 3)


@pytest.mark.parametrize("make", [t5, gpt2])
def test_output_embeddings_are_no_head(make: Any) -> None:
    model = make()
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    assert adapters.head_paths == ()
    assert adapters.labels("a") is None
    adapters.train_only("a")
    own = model.get_output_embeddings().weight
    assert not own.requires_grad
    if model.config.tie_word_embeddings:
        assert own is model.get_input_embeddings().weight
    assert all("graftwork" in n for n, p in model.named_parameters() if p.requires_grad)
    with pytest.raises(gw.ConfigError):
        adapters.add_head("a", 3)


@pytest.mark.parametrize("tied", [True, False])
def test_the_transform_of_a_masked_language_model_is_its_head(tied: bool) -> None:
    model = masked_lm(tied)
    adapters = two(model)
    assert adapters.head_paths == ("cls",)
    keys = [k for k in model.state_dict() if "heads" in k]
    assert any("transform" in k for k in keys)
    assert not [k for k in keys if "decoder.weight" in k]
    names = [n for n, p in model.named_parameters(remove_duplicate=False) if p is model.get_output_embeddings().weight]
    assert not [n for n in names if "graftwork" in n]
    adapters.train_only("a")
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert any("transform" in n for n in learning)
    assert not model.get_output_embeddings().weight.requires_grad
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    out = model(input_ids=ids(), labels=ids())
    out.loss.backward()
    unused = set() if tied else {n for n in learning if n.endswith("predictions.bias")}  # nor by 5.x itself
    assert learning - set(grads(model)) <= unused
    with torch.no_grad():  # a change of the base's decoder is seen by the copy
        before = model(input_ids=ids()).logits
        model.get_output_embeddings().weight.add_(1.0)
        assert not torch.equal(model(input_ids=ids()).logits, before)


def test_the_models_own_head_learns_alone() -> None:
    for make in (bert_classifier, masked_lm):
        model = make()
        adapters = two(model)
        adapters.train_only(None)
        learning = {n for n, p in model.named_parameters() if p.requires_grad}
        assert learning
        assert all(n.startswith(("classifier", "cls")) for n in learning)
        assert adapters.active is None
        assert not model.get_output_embeddings() or not model.get_output_embeddings().weight.requires_grad
