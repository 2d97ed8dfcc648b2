"""Copies of a model are independent of it: their own handle, their own weights, the same composition."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

import graftwork as gw
from tests.support.attached import bert_classifier, checkpoint, grads, ids, lively, output, stir

POOL = gw.Fuse("a", "b", name="ab")
INPUTS = {"input_ids": ids()}


def setup() -> tuple[Any, gw.Adapters]:
    model = bert_classifier()
    adapters = gw.attach(model)
    for n, (name, config) in enumerate({"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby()}.items()):
        adapters.add(name, config)
        if name == "b":
            adapters.add_head("b", 5)
        lively(adapters, name, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    adapters.active = gw.Stack("h", POOL)
    return model, adapters


def deep(model: nn.Module, folder: Path) -> nn.Module:
    return copy.deepcopy(model)


def pickled(model: nn.Module, folder: Path) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module, folder: Path) -> nn.Module:
    torch.save(model, folder / "model.pt")
    return torch.load(folder / "model.pt", weights_only=False)


def twice(model: nn.Module, folder: Path) -> nn.Module:
    return copy.deepcopy(pickled(copy.deepcopy(model), folder))


@pytest.mark.parametrize("way", [deep, pickled, saved, twice])
def test_a_copy_is_independent(way: Any, tmp_path: Path) -> None:
    model, adapters = setup()
    expected = {}
    for composition in (None, "a", "b", gw.MixedBatch(["a", "h", None, "a"]), gw.Stack("h", POOL)):
        with adapters.using(composition):
            expected[composition] = output(model, INPUTS)
    adapters.train_only("a", active=gw.Stack("h", POOL))
    other = way(model, tmp_path)
    theirs = gw.of(other)
    assert theirs is not adapters
    assert theirs.model is other
    assert theirs.active == adapters.active == gw.Stack("h", POOL)
    assert theirs.names == adapters.names
    assert theirs.trainable == ("a",)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in other.parameters()}
    assert torch.equal(output(other, INPUTS), expected[gw.Stack("h", POOL)])
    for composition, value in expected.items():
        with theirs.using(composition):
            assert torch.equal(output(other, INPUTS), value)
    for name in ("a", "h", "ab"):  # the original's weights move, the copy stays
        lively(adapters, name, seed=9)
    stir([model.bert], 3)
    for composition, value in expected.items():
        with theirs.using(composition):
            assert torch.equal(output(other, INPUTS), value)
        with adapters.using(composition):
            assert not torch.equal(output(model, INPUTS), value)
    before = output(model, INPUTS)
    theirs.active = "b"
    theirs.remove("h")
    theirs.add("new", gw.Houlsby())
    assert torch.equal(output(model, INPUTS), before)
    assert adapters.names == ("a", "b", "h")
    theirs.train_only("new")
    other.train()
    other(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert grads(other)
    assert not grads(model)
    theirs.detach()
    assert not [k for k in other.state_dict() if "graftwork" in k]
    assert torch.equal(output(model, INPUTS), before)


def test_a_copy_of_a_copy_outlives_the_original() -> None:
    model, adapters = setup()
    expected = output(model, INPUTS)
    other = copy.deepcopy(model)
    adapters.detach()
    del model, adapters
    assert torch.equal(output(other, INPUTS), expected)


def test_a_copy_while_checkpointing_and_composing() -> None:
    model, adapters = setup()
    checkpoint(model)
    model.train()
    adapters.train_only(POOL)
    model(**INPUTS).logits.sum().backward()
    model.zero_grad()
    with adapters.using("a"):
        other = copy.deepcopy(model)
    other.train()
    other(**INPUTS).logits.sum().backward()
    assert grads(other)
    assert not grads(model)


def test_threads_at_a_copy_that_has_not_run_yet() -> None:
    model, _ = setup()
    expected = output(model, INPUTS)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(5):
            other, wrong = copy.deepcopy(model), []

            def run(other: nn.Module = other, wrong: list[bool] = wrong) -> None:
                wrong.append(not torch.equal(output(other, INPUTS), expected))

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == [False] * 4
    finally:
        sys.setswitchinterval(interval)


def test_a_copied_part_is_plain() -> None:
    model, adapters = setup()
    adapters.active = None
    with torch.no_grad():
        hidden = model.bert.embeddings(INPUTS["input_ids"])
    plain = model.bert.encoder(hidden)[0]
    adapters.active = "a"
    part = copy.deepcopy(model.bert.encoder)
    assert torch.equal(part(hidden)[0], plain)
    assert not {id(p) for p in part.parameters()} & {id(p) for p in model.parameters()}
    bert = copy.deepcopy(model.bert)
    with pytest.raises(gw.AttachError):
        gw.of(bert)
    again = gw.attach(bert)
    assert again.names == ()
    assert not [k for k in bert.state_dict() if "graftwork" in k]
    again.add("a", gw.Pfeiffer(init="zero"))
    again.active = "a"
    adapters.active = None
    assert torch.equal(output(bert, INPUTS), model.bert(**INPUTS).last_hidden_state)


def test_tied_weights_stay_tied() -> None:
    import transformers as hf

    from tests.support.attached import SMALL, made

    model = made(hf.BertForMaskedLM, hf.BertConfig(**SMALL))
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    adapters.active = "a"
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        weight = other.get_input_embeddings().weight
        assert weight is other.get_output_embeddings().weight
        before = output(other, INPUTS)
        with torch.no_grad():
            weight.add_(torch.randn_like(weight))
        assert not torch.equal(output(other, INPUTS), before)  # the copied head sees the copy's decoder
        heads = gw.of(other).head_of("a")["cls"]
        assert heads.predictions.decoder.weight is weight


def test_hooks_added_after_unpickling_do_not_replace_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = setup()
    data = pickle.dumps(model)
    expected = output(model, INPUTS)
    monkeypatch.setattr(RemovableHandle, "next_id", 0)  # as in a new process
    other = pickle.loads(data)
    assert RemovableHandle.next_id > max(
        key for m in other.modules() for key in (*m._forward_hooks, *m._forward_pre_hooks)
    )
    assert torch.equal(output(other, INPUTS), expected)
