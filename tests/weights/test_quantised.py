"""Bases whose linear layers are quantised: sites, training, fusion, heads and files as on plain ones."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import graftwork as gw
from tests.support.attached import SMALL, bert_classifier, ids, lively, made, output

POOL = gw.Fuse("a", "b", name="f")
Model = Any


def need(module: str) -> Any:
    """A library, or the test is skipped: not every machine has a build of it, nor every build runs on a CPU."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as reason:
        pytest.skip(f"{module}: {reason}")


def dynamic(model: Model, inplace: bool = False) -> Model:
    """torch.ao: weights packed in modules of their own, which give them by a method only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and much in use
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=inplace)


def torchao(model: Model) -> Model:
    """torchao: weights are tensors of a class of their own, which says that they are floats."""
    quantization = need("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


def bitsandbytes(model: Model, bits: int) -> Model:
    """bitsandbytes: weights are integers, in four bits of another shape; heads stay as they are."""
    library = need("bitsandbytes")

    def replaced(module: nn.Module) -> None:
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Linear) or name in ("classifier", "lm_head"):
                replaced(child)
                continue
            if bits == 8:
                new = library.nn.Linear8bitLt(
                    child.in_features, child.out_features, child.bias is not None, has_fp16_weights=False
                )
            else:
                new = library.nn.Linear4bit(
                    child.in_features, child.out_features, child.bias is not None, torch.float32
                )
            new.load_state_dict(child.state_dict())
            setattr(module, name, new.to("cpu"))

    replaced(model)
    return model


KINDS: dict[str, Callable[[Model], Model]] = {
    "dynamic": dynamic,
    "torchao": torchao,
    "bitsandbytes, 8 bits": lambda model: bitsandbytes(model, 8),
    "bitsandbytes, 4 bits": lambda model: bitsandbytes(model, 4),
}


def bert() -> Model:
    return bert_classifier(hidden_size=64, intermediate_size=64)


def llama() -> Model:
    config = hf.LlamaConfig(**{**SMALL, "hidden_size": 64, "intermediate_size": 64}, num_key_value_heads=2)
    return made(hf.LlamaForCausalLM, config)


MODELS = {"bert": bert, "llama": llama}
quantised = pytest.mark.parametrize("kind", KINDS)
each_model = pytest.mark.parametrize("name", MODELS)


def prepared(kind: str, name: str, *names: str) -> tuple[Model, gw.Adapters]:
    """A quantised model with adapters, the same ones for the same call."""
    model = KINDS[kind](MODELS[name]()).eval()
    adapters = gw.attach(model)
    for n, adapter in enumerate(names):
        torch.manual_seed(n)
        adapters.add(adapter, gw.Houlsby(bottleneck_size=4) if adapter == "h" else gw.Pfeiffer(bottleneck_size=4))
        lively(adapters, adapter, seed=n)
    return model, adapters


def computed(model: Model, composition: gw.Composition) -> torch.Tensor:
    with gw.of(model).using(composition):
        return output(model, {"input_ids": ids(2, 8)})


def inputs(name: str) -> dict[str, torch.Tensor]:
    rows = ids(2, 8)
    return {"input_ids": rows, "labels": rows if name == "llama" else torch.tensor([0, 2])}


@quantised
@each_model
def test_the_sites_are_those_of_the_plain_model(kind: str, name: str) -> None:
    _, adapters = prepared(kind, name)
    assert [site.key for site in adapters.sites] == [site.key for site in gw.attach(MODELS[name]()).sites]


@quantised
@each_model
def test_attaching_changes_nothing(kind: str, name: str) -> None:
    """A layer of bitsandbytes hands its weights on when it first runs: to the model, not to a copy that was traced."""
    expected = output(KINDS[kind](MODELS[name]()).eval(), {"input_ids": ids(2, 8)})
    model, _ = prepared(kind, name)
    assert expected.isfinite().all()
    torch.testing.assert_close(output(model, {"input_ids": ids(2, 8)}), expected)


@pytest.mark.parametrize("kind", ["torchao", "bitsandbytes, 8 bits", "bitsandbytes, 4 bits"])
@each_model
def test_adapters_and_fusions_learn(kind: str, name: str) -> None:
    model, adapters = prepared(kind, name, "a", "b", "h")
    adapters.add_fusion(POOL)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if "graftwork" in n}
    for what in ("a", "h", POOL):
        adapters.train_only(what)
        model.train()
        learning = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=0.01)
        model(**inputs(name)).loss.backward()
        assert all(p.grad is not None for p in learning)
        optimizer.step()
        model.zero_grad()
    moved = {n for n, p in model.named_parameters() if n in before and not torch.equal(p, before[n])}
    assert any("fusions" in n for n in moved) and any("n_h" in n for n in moved)


@each_model
def test_layers_that_give_no_gradients_back_are_refused(name: str) -> None:
    model, adapters = prepared("dynamic", name, "a", "b")
    adapters.active = "b"
    with pytest.raises(gw.AttachError, match=r"train_only\('a'\).*give no gradients back.*load the adapters here"):
        adapters.train_only("a")
    assert adapters.active == "b" and not adapters.trainable
    assert not any(p.requires_grad for p in model.parameters())


@quantised
@each_model
def test_a_fusion_folds_and_is_the_sum_that_it_is(kind: str, name: str) -> None:
    model, adapters = prepared(kind, name, "a", "b")
    adapters.add_fusion(POOL)
    lively(adapters, "f")
    plain = computed(model, None)
    fused = computed(model, POOL)
    assert not torch.allclose(plain, fused, atol=1e-3)
    for p in adapters.modules_of("f").values():
        p.requires_grad_(True)  # the form that is trained, not the folded one
    torch.testing.assert_close(computed(model, POOL), fused, rtol=1e-3, atol=1e-3)


@quantised
@each_model
def test_what_is_saved_is_what_is_loaded(kind: str, name: str, tmp_path: Path) -> None:
    model, adapters = prepared(kind, name, "a", "b")
    adapters.add_fusion(POOL)
    lively(adapters, "f")
    adapters.save(POOL, tmp_path / "w", members=True)
    expected = computed(model, POOL)
    twin, fresh = prepared(kind, name)
    fresh.load(tmp_path / "w")
    torch.testing.assert_close(computed(twin, POOL), expected)


@quantised
@each_model
def test_files_go_between_the_quantised_and_the_plain_base(kind: str, name: str, tmp_path: Path) -> None:
    """What of the base is quantised cannot be told apart; what is not, is."""
    _model, adapters = prepared(kind, name, "a")
    adapters.save("a", tmp_path / "q")
    plain = gw.attach(MODELS[name]())
    assert plain.load(tmp_path / "q") == "a"
    plain.save("a", tmp_path / "p")
    assert adapters.load(tmp_path / "p", name="b") == "b"
    other = MODELS[name]()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.01)
    with pytest.raises(gw.CheckpointError, match="another revision"):
        gw.attach(other).load(tmp_path / "q")


@pytest.mark.parametrize("kind", ["dynamic", "torchao"])
def test_a_quantised_head_is_copied_as_one_that_can_learn(kind: str) -> None:
    _model, adapters = prepared(kind, "bert", "a")
    head = adapters.head_of("a")["classifier"]
    assert type(head) is nn.Linear and head.weight.dtype == torch.float32
    rows = torch.randn(5, 64)
    plain = prepared(kind, "bert")[0].classifier
    fresh = gw.attach(KINDS[kind](MODELS["bert"]()).eval())
    fresh.add("a", gw.Pfeiffer(bottleneck_size=4))
    torch.testing.assert_close(fresh.head_of("a")["classifier"](rows), plain(rows), rtol=0.05, atol=0.05)


# --------------------------------------------------------------------------------------------- quantised after attaching


def test_a_model_that_is_quantised_later_keeps_its_adapters() -> None:
    """torch.ao puts modules in the place of those that adapters stand at, and hands on their hooks without keywords."""
    model = bert()
    adapters = gw.attach(model)
    for n, adapter in enumerate(("a", "h")):
        adapters.add(adapter, gw.Houlsby(bottleneck_size=4) if adapter == "h" else gw.Pfeiffer(bottleneck_size=4))
        lively(adapters, adapter, seed=n)
    for source, inplace in ((model, False), (copy.deepcopy(model), True)):
        later = dynamic(source, inplace=inplace)
        for adapter in ("a", "h"):
            effect = computed(model, adapter) - computed(model, None)
            found = computed(later, adapter) - computed(later, None)
            assert (found - effect).abs().max() < 0.2 * effect.abs().max()


def test_what_was_quantised_with_the_model_is_not_saved(tmp_path: Path) -> None:
    model = bert()
    adapters = gw.attach(model)
    adapters.add("a", gw.Pfeiffer(bottleneck_size=4))
    later = gw.of(dynamic(model))
    with pytest.raises(gw.CheckpointError, match=r"head/classifier/.* is quantised.*save adapters before"):
        later.save("a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_layer_that_cannot_run_with_gradients_gives_none_back(monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapters = prepared("dynamic", next(iter(MODELS)), "a")
    layer = torch.ao.nn.quantized.dynamic.Linear

    def failing(*_: object) -> None:
        raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.")

    monkeypatch.setattr(layer, "forward", failing)
    with pytest.raises(gw.AttachError, match="give no gradients back"):
        adapters.train_only("a")
