"""What the configuration says of labels: those of the active head outside, those of the head in use inside a pass."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

import graftwork as gw
from tests.attach.test_heads import labels_of, two
from tests.support.attached import bert_classifier, ids, lively

WORDS = ["[PAD]", "[UNK]", *"abcdefgh"]
THREE = ["negative", "neutral", "positive"]


def tokenizer() -> Any:
    tokens = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]")


def predicted(model: Any) -> dict[str, float]:
    pipe = hf.pipeline("text-classification", model=model, tokenizer=tokenizer(), device="cpu")
    return {found["label"]: found["score"] for found in pipe("a b c", top_k=None)}


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer()("a b c", return_tensors="pt")).logits[0]  # type: ignore[no-any-return]


def test_a_pipeline_names_the_labels_of_the_active_head() -> None:
    model = bert_classifier(labels=2)
    before = labels_of(model)
    adapters = two(model, a=THREE, b=["no", "yes"])
    for name, names in (("a", THREE), ("b", ["no", "yes"])):
        adapters.active = name
        assert predicted(model) == pytest.approx(dict(zip(names, logits(model).softmax(0).tolist(), strict=True)))
        assert model.num_labels == model.config.num_labels == len(names)
    adapters.active = None
    assert set(predicted(model)) == {"LABEL_0", "LABEL_1"}
    assert labels_of(model) == before
    adapters.activate("b", head="a")
    assert set(predicted(model)) == set(THREE)
    adapters.detach()
    assert labels_of(model) == before


def test_a_pipeline_scores_several_labels_at_once_each_by_itself() -> None:
    model = bert_classifier(labels=2)
    adapters = two(model, a=["x", "y"])
    adapters.train_only("a")
    model(input_ids=ids(), labels=torch.tensor([[1.0, 0.0]] * 4))
    assert adapters.labels("a") == gw.Labels(("x", "y"), "multi_label_classification")
    assert predicted(model) == pytest.approx(dict(zip("xy", logits(model).sigmoid().tolist(), strict=True)))
    adapters.active = "b"
    assert model.config.problem_type is None


def test_heads_with_equal_labels_learn_what_their_labels_mean_each_for_itself() -> None:
    model = bert_classifier(labels=3)
    adapters = two(model)
    adapters.active = "a"
    model(input_ids=ids(), labels=torch.ones(4, 3))
    adapters.active = "b"
    found = model(input_ids=ids(), labels=torch.tensor([0, 1, 2, 0]))
    expected = nn.functional.cross_entropy(found.logits, torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(found.loss, expected)
    kinds = [getattr(adapters.labels(name), "problem_type", None) for name in "ab"]
    assert kinds == ["multi_label_classification", "single_label_classification"]


def test_the_plain_model_in_one_thread_keeps_its_labels() -> None:
    model = bert_classifier(labels=3)
    labels = torch.tensor([2, 1, 2, 0])
    plain = model(input_ids=ids(), labels=labels).loss
    adapters = two(model, a=2)
    adapters.active = "a"
    with adapters.using(None):
        torch.testing.assert_close(model(input_ids=ids(), labels=labels).loss, plain)
    assert model.config.num_labels == 2


def test_copies_and_pickles_say_their_own() -> None:
    model = bert_classifier(labels=2)
    adapters = two(model, a=THREE)
    adapters.active = "a"
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        gw.of(other).active = None
        assert other.config.num_labels == 2
        assert model.config.num_labels == 3
        gw.of(other).detach()
        assert labels_of(other) == labels_of(bert_classifier(labels=2))


class Dead(BaseException):
    pass


@pytest.mark.parametrize("inside", [True, False], ids=["nothing active", "another head active"])
def test_a_thread_that_dies_in_a_pass_holds_nobody_up(inside: bool) -> None:
    model = bert_classifier()
    adapters = two(model, a=5, b=2)
    adapters.active = None if inside else "b"
    before = labels_of(model)

    def die(*_: Any) -> None:
        raise Dead

    def run() -> None:
        with adapters.using("a"), pytest.raises(Dead):
            model(input_ids=ids(), labels=torch.tensor([4, 0, 0, 0]))

    hook = model.bert.encoder.register_forward_hook(die)
    one = threading.Thread(target=run)
    one.start()
    one.join()
    hook.remove()
    done = threading.Event()

    def go_on() -> None:
        with adapters.using("b"):
            assert model(input_ids=ids(), labels=torch.tensor([1, 0, 0, 0])).logits.shape == (4, 2)
        done.set()

    other = threading.Thread(target=go_on, daemon=True)
    other.start()
    assert done.wait(10), "it waits for a thread that is no more"
    names, _, _, *numbers = labels_of(model)
    assert (names, numbers) == (before[0], list(before[3:]))


def test_a_pass_that_was_interrupted_in_a_thread_that_lives_on_holds_nobody_up() -> None:
    model = bert_classifier()
    adapters = two(model, a=5, b=2)
    interrupted, go = threading.Event(), threading.Event()

    def die(*_: Any) -> None:
        raise Dead

    hook = model.bert.encoder.register_forward_hook(die)

    def run() -> None:
        with adapters.using("a"), pytest.raises(Dead):
            model(input_ids=ids(), labels=torch.tensor([4, 0, 0, 0]))
        interrupted.set()
        go.wait(30)

    one = threading.Thread(target=run, daemon=True)
    one.start()
    assert interrupted.wait(30)
    hook.remove()
    found: list[Any] = []

    def go_on() -> None:
        with adapters.using("b"):
            found.append(model(input_ids=ids(), labels=torch.tensor([1, 0, 0, 0])).logits.shape)

    other = threading.Thread(target=go_on, daemon=True)
    other.start()
    other.join(10)
    go.set()
    assert found == [(4, 2)]


def test_what_is_activated_during_a_pass_is_said_after_it() -> None:
    model = bert_classifier()
    adapters = two(model, a=5, b=["no", "yes"])

    def activate(*_: Any) -> None:
        thread = threading.Thread(target=lambda: adapters.activate("b"))
        thread.start()
        thread.join(10)
        assert not thread.is_alive() and model.config.num_labels == 5

    hook = model.bert.encoder.register_forward_hook(activate)
    with adapters.using("a"):
        assert model(input_ids=ids(), labels=torch.tensor([4, 0, 0, 0])).logits.shape == (4, 5)
    hook.remove()
    assert model.config.id2label == {0: "no", 1: "yes"}


def test_the_head_of_a_wrapper_around_a_model() -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        bert_classifier(labels=3), peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    )
    adapters = gw.attach(model)
    (path,) = adapters.head_paths
    assert model.get_submodule(path) is model.base_model.model.classifier.modules_to_save["default"]
    adapters.add("a", gw.Pfeiffer())
    adapters.add_head("a", ["x", "y"])
    adapters.train_only("a")
    learning = [n for n, p in model.named_parameters() if p.requires_grad and "heads" in n]
    assert sorted(n.rpartition(".")[2] for n in learning) == ["bias", "weight"]
    lively(adapters, "a")
    found = model(input_ids=ids(), labels=torch.tensor([0, 1, 1, 0]))
    assert found.logits.shape == (4, 2)
    assert model.config.id2label == {0: "x", 1: "y"} and model.base_model.model.num_labels == 2
