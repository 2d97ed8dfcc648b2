"""What is the same base: with another head or none, in half precision, with a longer vocabulary, with LoRA in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

import graftwork as gw
from graftwork.weights.samples import same
from tests.checkpoint.common import added, attached, output
from tests.zoo.encoders import COMMON
from tests.zoo.models import build


@pytest.mark.parametrize("here", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("there", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_copy_in_another_precision_is_the_same_base(there: torch.dtype, here: torch.dtype, tmp_path: Path) -> None:
    def copy(dtype: torch.dtype) -> gw.Adapters:
        return gw.attach(build("bert_classifier").model.to(dtype))

    adapters = copy(there)
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    copy(here).load(tmp_path / "a")
    other = gw.attach(build("bert_classifier", seed=1).model.to(here))
    with pytest.raises(gw.CheckpointError, match="another revision"):
        other.load(tmp_path / "a")


def test_a_half_precision_copy_made_wide_again_is_the_same_base(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    zoo = build("bert_classifier")
    gw.attach(zoo.model.bfloat16().float()).load(tmp_path / "a")


def test_parts_of_the_base_in_another_precision(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    zoo = build("bert_classifier")
    zoo.model.bert.encoder.layer[0].output.half()
    gw.attach(zoo.model.float()).load(tmp_path / "a")


def test_samples() -> None:
    exact = (0.1, 0.2, None)
    assert same(exact, exact)
    assert not same(exact, (0.1, 0.20000001, None))
    assert not same(exact, (0.1, 0.2))
    assert not same((0.5,), (None,))


def test_a_longer_vocabulary_is_the_same_base(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    zoo = build("bert_classifier")
    zoo.model.resize_token_embeddings(107)
    gw.attach(zoo.model).load(tmp_path / "a")


def test_lora_in_the_base_is_looked_through(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "plain")
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["query", "dense"]), zoo.model)
    adapters.save("a", tmp_path / "lora")
    for folder in ("plain", "lora"):
        adapters.load(tmp_path / folder, name=folder)
        _, fresh = attached()
        fresh.load(tmp_path / folder)


def test_t5_with_and_without_its_output_projection(tmp_path: Path) -> None:
    zoo, adapters = attached("t5")
    added(adapters, a=gw.Houlsby())
    adapters.save("a", tmp_path / "a")
    full = zoo.model if isinstance(zoo.model, hf.T5ForConditionalGeneration) else None
    model = hf.T5Model(zoo.model.config) if full is not None else hf.T5ForConditionalGeneration(zoo.model.config)
    model.load_state_dict({k: v for k, v in zoo.model.state_dict().items() if "graftwork" not in k}, strict=False)
    assert gw.attach(model).load(tmp_path / "a") == "a"


def test_a_plain_module(tmp_path: Path) -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = torch.nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.branch(x)

    def make(seed: int) -> gw.Adapters:
        torch.manual_seed(seed)
        model = torch.nn.Sequential(Block(), Block())
        sites = [
            gw.Site(
                stack="", layer=n, kind="feed_forward", block=str(n), output=gw.Tap(f"{n}.branch", "output"), width=6
            )
            for n in range(2)
        ]
        return gw.attach(model, sites=sites)

    adapters = make(0)
    adapters.add("a", gw.Standard(sites=("feed_forward",), bottleneck_size=2))
    adapters.save("a", tmp_path / "a")
    make(0).load(tmp_path / "a")
    with pytest.raises(gw.CheckpointError, match="another revision"):
        make(1).load(tmp_path / "a")


def test_a_model_without_weights_yet_is_refused(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    adapters.save("a", tmp_path / "a")
    with torch.device("meta"):
        model = hf.BertModel(hf.BertConfig(**COMMON))
    fresh = gw.attach(model, sites=list(gw.discover(build("bert").model)))
    with pytest.raises(gw.CheckpointError, match=r"meta device|sampled weights"):
        fresh.load(tmp_path / "a", other_base=True)
    fresh.add("b", gw.Pfeiffer())
    with pytest.raises(gw.CheckpointError, match="meta device"):
        fresh.save("b", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_on_a_base_that_was_trained_with_it(tmp_path: Path) -> None:
    """An adapter trained together with the base fits that base only."""
    zoo, adapters = attached()
    added(adapters, a=gw.Pfeiffer())
    with torch.no_grad():
        for layer in zoo.model.bert.encoder.layer:
            layer.output.dense.weight.add_(0.01)
    adapters.save("a", tmp_path / "a")
    same_zoo, fresh = attached()
    with pytest.raises(gw.CheckpointError, match="another revision"):
        fresh.load(tmp_path / "a")
    assert not torch.equal(output(zoo, "a"), output(same_zoo, None))
