"""Attaching leaves the user's model theirs, and detaching leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import graftwork as gw
from tests.support.attached import (
    assert_same,
    attached,
    bert_classifier,
    checkpoint,
    ids,
    lively,
    output,
    snapshot,
    with_adapters,
)
from tests.zoo.models import build, main_output

MODELS = (
    "bert",
    "llama_causal",
    "t5_generation",
    "gpt2",
    "albert",
    "torch_encoder_post",
    "sentence_transformer",
)


def train_a_step(model: nn.Module, inputs: dict[str, Any]) -> None:
    model.train()
    main_output(model(**inputs)).square().mean().backward()


@pytest.mark.parametrize("name", MODELS)
def test_no_class_is_swapped_and_no_method_added(name: str) -> None:
    zoo = build(name)
    classes = {n: type(m) for n, m in zoo.model.named_modules()}
    before = {n: {k: id(v) for k, v in vars(c).items()} for n, c in classes.items()}
    public = {n: {k for k in vars(m) if not k.startswith("_")} for n, m in zoo.model.named_modules()}
    adapters = attached(zoo)
    adapters.add("a", gw.Houlsby())
    adapters.train_only("a")
    output(zoo.model, zoo.inputs)
    modules = dict(zoo.model.named_modules())
    for n, cls in classes.items():
        assert type(modules[n]) is cls
        assert {k: id(v) for k, v in vars(cls).items()} == before[n]
        assert {k for k in vars(modules[n]) if not k.startswith("_")} == public[n]


@pytest.mark.parametrize("name", MODELS)
def test_adapters_that_add_zero_change_no_bit(name: str) -> None:
    zoo = build(name)
    plain = output(zoo.model, zoo.inputs)
    adapters = attached(zoo)

    def require_plain() -> None:
        found = output(zoo.model, zoo.inputs)
        if name.startswith("torch_"):  # torch itself leaves its fused kernels where hooks are or weights are frozen
            torch.testing.assert_close(found, plain)
        else:
            assert torch.equal(found, plain)

    require_plain()
    adapters.add("a", gw.Pfeiffer(init="zero"))
    adapters.active = "a"
    require_plain()
    lively(adapters, "a")
    assert not torch.equal(output(zoo.model, zoo.inputs), plain)
    adapters.active = None
    require_plain()


@pytest.mark.parametrize("name", MODELS)
def test_detach_restores_everything(name: str) -> None:
    zoo = build(name)
    for n, p in enumerate(zoo.model.parameters()):  # flags of the user's own making
        p.requires_grad_(n % 3 != 0)
    before, plain = snapshot(zoo.model), output(zoo.model, zoo.inputs)
    adapters = attached(zoo)
    for adapter in ("a", "b"):
        adapters.add(adapter, gw.Standard())
        lively(adapters, adapter)
    pool = gw.Fuse("a", "b", name="ab")
    adapters.add_fusion(pool)
    adapters.train_only(pool)
    train_a_step(zoo.model, zoo.inputs)
    zoo.model.zero_grad()
    zoo.model.eval()
    assert not torch.equal(output(zoo.model, zoo.inputs), plain)
    adapters.detach()
    assert_same(before, snapshot(zoo.model))
    assert torch.equal(output(zoo.model, zoo.inputs), plain)
    with pytest.raises(gw.AttachError, match="nothing is attached"):
        gw.of(zoo.model)


def test_detach_keeps_the_hooks_of_others() -> None:
    model = build("bert").model
    seen: list[str] = []
    target = model.encoder.layer[0].output.dropout
    target.register_forward_hook(lambda *_: seen.append("before"))
    model.register_forward_pre_hook(lambda *_: seen.append("model"))
    before = snapshot(model)
    adapters = gw.attach(model)
    handle = target.register_forward_hook(lambda *_, **__: seen.append("after"), with_kwargs=True)
    adapters.detach()
    model(input_ids=ids())
    assert seen == ["model", "before", "after"]
    handle.remove()
    assert_same(before, snapshot(model))


def test_detach_restores_checkpointing_and_batch_norms() -> None:
    model = bert_classifier()
    model.dropout = nn.Sequential(nn.BatchNorm1d(32), nn.BatchNorm1d(32))
    model.dropout[1].eval()
    checkpoint(model)
    model.train()
    model.dropout[1].eval()
    before = snapshot(model)
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    adapters.train_only("a")
    for _ in range(2):
        model(input_ids=ids()).logits.sum().backward()
    model.zero_grad()
    assert not any(m.training for m in model.dropout)
    adapters.detach()
    assert_same(before, snapshot(model))


def test_attach_twice_gives_the_same_handle() -> None:
    model = build("bert").model
    adapters = gw.attach(model)
    hooks = snapshot(model)["hooks"]
    assert gw.attach(model) is adapters is gw.of(model)
    assert gw.attach(model, sites=adapters.sites) is adapters
    assert snapshot(model)["hooks"] == hooks
    with pytest.raises(gw.AttachError, match="other sites"):
        gw.attach(model, sites=list(adapters.sites)[:1])
    adapters.detach()
    again = gw.attach(model)
    assert again is not adapters
    again.add("a", gw.Pfeiffer())


def test_a_part_of_an_attached_model_is_not_attached_again() -> None:
    model = bert_classifier()
    adapters = gw.attach(model)
    with pytest.raises(gw.AttachError, match="attached already"):
        gw.attach(model.bert)
    outer = nn.Module()
    outer.inner = model
    with pytest.raises(gw.AttachError, match="attached already"):
        gw.attach(outer, sites=adapters.sites)
    with pytest.raises(gw.AttachError, match="nothing is attached"):
        gw.of(model.bert)


@pytest.mark.parametrize("where", ["encoder.layer.1", "encoder.layer.0.attention.self", "pooler", "embeddings"])
def test_a_forward_that_raised_leaves_nothing(where: str) -> None:
    model, adapters, inputs = with_adapters("bert")
    adapters.active = gw.Stack("a", "b")
    right = output(model, inputs)

    def fail(*_: Any) -> None:
        raise ValueError("on purpose")

    for register in ("register_forward_pre_hook", "register_forward_hook"):
        handle = getattr(model.get_submodule(where), register)(fail)
        for composition in (gw.Stack("a", "b"), "a", gw.MixedBatch(["a", "b", None])):
            with adapters.using(composition), pytest.raises(ValueError, match="on purpose"):
                model(**inputs)
            assert adapters.runtime.frame is None
        handle.remove()
        assert torch.equal(output(model, inputs), right)


def test_an_interrupted_forward_leaves_nothing() -> None:
    model, adapters, inputs = with_adapters("bert")
    expected = {}
    for name in ("a", "b"):
        adapters.active = name
        expected[name] = output(model, inputs)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model.encoder.layer[1].register_forward_hook(interrupt)
    adapters.active = "a"
    with pytest.raises(KeyboardInterrupt):
        model(**inputs)
    with pytest.raises(KeyboardInterrupt):  # a part called alone
        model.encoder(model.embeddings(inputs["input_ids"]))
    handle.remove()
    adapters.active = "b"
    assert torch.equal(output(model, inputs), expected["b"])
    assert adapters.runtime.frame is None


def test_save_pretrained_of_an_attached_model(tmp_path: Path) -> None:
    model = bert_classifier()
    plain = output(model, {"input_ids": ids()})
    adapters = gw.attach(model)
    for name in ("a", "b"):
        adapters.add(name, gw.Houlsby())
        lively(adapters, name)
    adapters.add_fusion(gw.Fuse("a", "b", name="ab", norms="base"))
    adapters.active = "a"
    model.save_pretrained(tmp_path)
    again, info = hf.BertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert all("graftwork" in key for key in info["unexpected_keys"])
    assert info["unexpected_keys"]
    assert torch.equal(output(again.eval(), {"input_ids": ids()}), plain)
    third = gw.attach(again)
    for name in ("a", "b"):
        third.add(name, gw.Houlsby())
    third.add_fusion(gw.Fuse("a", "b", name="ab", norms="base"))
    again.load_state_dict(model.state_dict())
    for composition in ("a", "b", gw.Fuse("a", "b", name="ab", norms="base")):
        with adapters.using(composition), third.using(composition):
            assert torch.equal(output(again, {"input_ids": ids()}), output(model, {"input_ids": ids()}))


@pytest.mark.parametrize("tied", [True, False])
def test_save_pretrained_of_a_language_model(tmp_path: Path, tied: bool) -> None:
    config = hf.BertConfig(
        **{
            "vocab_size": 100,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
        },
        tie_word_embeddings=tied,
    )
    model = hf.BertForMaskedLM(config).eval()
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer())
    lively(adapters, "a")
    model.save_pretrained(tmp_path)
    again, info = hf.BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    with adapters.using(None):
        assert torch.equal(output(again.eval(), {"input_ids": ids()}), output(model, {"input_ids": ids()}))


def test_a_part_runs_alone_where_nothing_is_added() -> None:
    model, adapters, inputs = with_adapters("bert")
    plain = model.embeddings(inputs["input_ids"])
    adapters.active = "a"
    assert torch.equal(model.embeddings(inputs["input_ids"]), plain)  # no adapter stands there
    with pytest.raises(gw.AttachError, match=r"bind\(fn\)"):
        model.encoder.layer[0](plain)
    adapters.active = None
    model.encoder.layer[0](plain)


def test_compiled_and_wrapped_models_are_refused() -> None:
    with pytest.raises(gw.AttachError, match="compiled already"):
        gw.attach(torch.compile(build("bert").model, backend="eager"))
    model = build("bert").model
    model.compile(backend="eager")
    with pytest.raises(gw.AttachError, match="compiled already"):
        gw.attach(model)
    model = build("bert").model
    model.encoder.layer[1].compile(backend="eager")
    with pytest.raises(gw.AttachError, match=r"encoder\.layer\.1"):
        gw.attach(model)
    with pytest.raises(gw.AttachError, match="DataParallel"):
        gw.attach(nn.DataParallel(build("bert").model))
    with pytest.raises(gw.AttachError, match="Module"):
        gw.attach(lambda x: x)  # type: ignore[arg-type]
