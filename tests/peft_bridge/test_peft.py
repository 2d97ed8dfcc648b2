"""peft on the same model: its parts come first, ours behind them, and each can come and go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import SMALL, bert_classifier, grads, ids, lively, made, output
from tests.zoo.models import build

peft = pytest.importorskip("peft")
INPUTS = {"input_ids": ids()}


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_dropout": 0.0, "target_modules": ["dense"], **options})


def stir_lora(model: nn.Module) -> None:
    with torch.no_grad():
        generator = torch.Generator().manual_seed(7)
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
            elif "modules_to_save" in name:
                p.add_(torch.randn(p.shape, generator=generator), alpha=0.3)


def inject(model: nn.Module, **options: Any) -> None:
    peft.inject_adapter_in_model(lora(**options), model)


def wrap(model: nn.Module, **options: Any) -> None:
    peft.get_peft_model(model, lora(**options))


def add(model: Any, **options: Any) -> None:
    model.add_adapter(lora(**options))


WAYS = [inject, wrap, add]


def attached(model: nn.Module) -> gw.Adapters:
    adapters = gw.attach(model)
    for n, (name, config) in enumerate({"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby()}.items()):
        torch.manual_seed(n)
        adapters.add(name, config)
        lively(adapters, name, seed=n)
    return adapters


@pytest.mark.parametrize("way", WAYS)
def test_before_and_after_attaching_are_one(way: Any) -> None:
    first, second = bert_classifier(), bert_classifier()
    way(first)
    stir_lora(first)
    adapters, others = attached(first), attached(second)
    way(second)
    stir_lora(second)
    compositions = ("a", "h", gw.Stack("h", "a"), gw.MixedBatch(["a", None, "b", "h"]), None)
    for composition in compositions:
        with adapters.using(composition, head=None), others.using(composition, head=None):
            assert torch.equal(output(first, INPUTS), output(second, INPUTS))
    with others.using("a", head=None):
        assert not torch.equal(output(second, INPUTS), output(bert_classifier(), INPUTS))


class Plain(nn.Module):
    """One branch that ends in a Linear, so that peft wraps the very module that we write behind."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(x)


SITE = gw.Site(
    stack="",
    layer=0,
    kind="feed_forward",
    block="",
    output=gw.Tap("fc", "output"),
    residual=gw.Tap("fc", "input", 0),
    input=gw.Tap("fc", "input", 0),
    width=8,
)


@pytest.mark.parametrize("reads", ["output", "stream", "input"])
@pytest.mark.parametrize("first", ["peft", "ours"])
def test_behind_the_part_of_lora(first: str, reads: str) -> None:
    torch.manual_seed(0)
    model = Plain()
    plain = model.fc
    if first == "peft":
        inject(model, target_modules=["fc"])
    adapters = gw.attach(model, sites=[SITE])
    adapters.add("a", gw.Bottleneck(sites=("feed_forward",), reads=reads, bottleneck_size=4))
    lively(adapters, "a")
    adapters.active = "a"
    if first == "ours":
        output(model, {"x": torch.randn(2, 3, 8)})
        inject(model, target_modules=["fc"])
    stir_lora(model)
    x = torch.randn(2, 3, 8)
    (module,) = adapters.modules_of("a").values()
    part = model.fc
    with torch.no_grad():
        y = x @ plain.weight.T + plain.bias if isinstance(plain, nn.Linear) else None
        y = y + part.scaling["default"] * part.lora_B["default"](part.lora_A["default"](x))
        read = {"output": y, "stream": x + y, "input": x}[reads]
        delta = torch.relu(read @ module.down.T + module.down_bias) @ module.up.T + module.up_bias
        torch.testing.assert_close(model(x), x + y + delta)
    adapters.active = None
    torch.testing.assert_close(output(model, {"x": x}), x + y)
    adapters.active = "a"
    # merged and unloaded: the wrapper is gone, and our hooks are at home again
    part.merge()
    torch.testing.assert_close(output(model, {"x": x}), x + y + delta)
    model.fc = part.get_base_layer()
    torch.testing.assert_close(output(model, {"x": x}), x + y + delta)
    adapters.detach()
    assert not part._forward_hooks
    assert not model.fc._forward_hooks
    torch.testing.assert_close(output(model, {"x": x}), x + y)


def test_merge_and_unload() -> None:
    model = bert_classifier()
    adapters = attached(model)
    wrapped = peft.get_peft_model(model, lora())
    stir_lora(model)
    adapters.active = gw.Stack("h", "a")
    expected = output(model, INPUTS)
    plain = wrapped.merge_and_unload()
    assert plain is model
    assert not [k for k in model.state_dict() if "lora" in k]
    torch.testing.assert_close(output(model, INPUTS), expected, rtol=1e-4, atol=1e-4)
    adapters.detach()
    assert not [k for k in model.state_dict() if "graftwork" in k]


@pytest.mark.parametrize("make", ["classifier", "roberta", "masked", "opt", "llama_causal"])
def test_all_linear_takes_none_of_ours(make: str) -> None:
    if make == "classifier":
        model = bert_classifier()
    elif make == "roberta":
        model = made(hf.RobertaForSequenceClassification, hf.RobertaConfig(**SMALL, num_labels=3))
    elif make == "masked":
        model = made(hf.BertForMaskedLM, hf.BertConfig(**SMALL))
    else:
        model = build(make).model
    adapters = attached(model)
    kind = {"llama_causal": "CAUSAL_LM", "opt": "FEATURE_EXTRACTION", "masked": None}.get(make, "SEQ_CLS")
    # The transform of a masked language model is made of nn.Linear, and so is each adapter's copy: peft must be told.
    excluded = {"exclude_modules": r".*\bgraftwork\b.*"} if make == "masked" else {}
    wrapped = peft.get_peft_model(model, lora(target_modules="all-linear", task_type=kind, **excluded))
    taken = [n for n, m in wrapped.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert taken
    assert not [n for n in taken if "graftwork" in n]
    stir_lora(model)
    adapters.active = "a"
    assert torch.isfinite(output(model, {**INPUTS})).all()


def test_lora_learns_with_ours() -> None:
    model = bert_classifier()
    adapters = attached(model)
    inject(model)
    adapters.train_only("h")
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.requires_grad_(True)
    model.train()
    model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    stir_lora(model)
    model.zero_grad()
    model(**INPUTS, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    found = grads(model)
    assert {n for n in found if "lora_" in n} == {n for n, _ in model.named_parameters() if "lora_" in n}
    assert {n for n in found if ".n_h." in n} == {n for n, _ in model.named_parameters() if ".n_h." in n}
    assert all("lora_" in n or ".n_h." in n for n in found)


def test_saved_modules_of_peft() -> None:
    model = bert_classifier()
    adapters = attached(model)
    plain = output(model, INPUTS)
    with adapters.using("a"):
        mine = output(model, INPUTS)
    peft.get_peft_model(model, lora(modules_to_save=["classifier"], task_type="SEQ_CLS"))
    assert torch.equal(output(model, INPUTS), plain)
    with adapters.using("a"):  # our adapter brings its own head
        assert torch.equal(output(model, INPUTS), mine)
    stir_lora(model)
    assert not torch.equal(output(model, INPUTS), plain)
    inner = model.classifier.modules_to_save["default"]
    assert not {id(p) for p in inner.parameters()} & {
        id(p) for m in adapters.head_of("a").values() for p in m.parameters()
    }


def test_norms_that_peft_wraps() -> None:
    model = bert_classifier()
    adapters = attached(model)
    peft.get_peft_model(model, peft.LNTuningConfig(target_modules=["LayerNorm"]))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "ln_tuning" in name:
                p.add_(torch.randn_like(p), alpha=0.3)
    tuned = bert_classifier()
    with torch.no_grad():
        wanted = dict(model.named_parameters())
        for name, p in tuned.named_parameters():
            key = name.replace("LayerNorm.", "LayerNorm.ln_tuning_layers.default.")
            p.copy_(wanted.get(key, wanted.get(name)))
    others = attached(tuned)
    for composition in (None, "a", gw.Stack("a", "b")):
        with adapters.using(composition, head=None), others.using(composition, head=None):
            torch.testing.assert_close(output(model, INPUTS), output(tuned, INPUTS))


def test_detach_leaves_peft() -> None:
    model, other = bert_classifier(), bert_classifier()
    for m in (model, other):
        if m is model:
            adapters = attached(m)
        inject(m)
        stir_lora(m)
    adapters.active = "a"
    output(model, INPUTS)
    adapters.detach()
    assert torch.equal(output(model, INPUTS), output(other, INPUTS))
    assert list(model.state_dict()) == list(other.state_dict())
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_a_wrapped_model_is_used_as_it_is() -> None:
    model = bert_classifier()
    adapters = attached(model)
    wrapped = peft.get_peft_model(model, lora(task_type="SEQ_CLS"))
    stir_lora(model)
    adapters.active = "a"
    assert torch.equal(output(wrapped, INPUTS), output(model, INPUTS))
    with pytest.raises(gw.AttachError, match="attached already"):
        gw.attach(wrapped)
