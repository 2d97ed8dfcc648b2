"""Folders of peft: read here, and written for peft, with the same outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import graftwork as gw
from tests.support.interpreter import close, sites_of, unsettle
from tests.zoo.models import build, clone_inputs, main_output

CONFIGS: dict[str, tuple[str, Any]] = {
    "defaults": ("bert", peft.LoraConfig),
    "conv1d": ("gpt2", lambda: peft.LoraConfig(fan_in_fan_out=True)),
    "two stacks": ("t5", lambda: peft.LoraConfig(target_modules=["q", "wo"])),
    "patterns": (
        "llama",
        lambda: peft.LoraConfig(
            target_modules="all-linear", use_rslora=True, rank_pattern={"q_proj": 3}, alpha_pattern={"layers.0.mlp": 5}
        ),
    ),
    "dora": ("llama", lambda: peft.LoraConfig(use_dora=True)),
    "ia3": (
        "bert",
        lambda: peft.IA3Config(target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]),
    ),
}


def filled(model: Any, config: Any) -> Any:
    """A model of peft, every weight of its adapter moved."""
    wrapped = peft.get_peft_model(model, config).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if any(part in name for part in ("lora_", "ia3_", "modules_to_save")):
                p.add_(torch.randn(p.shape, generator=draw), alpha=0.2)
    return wrapped


@pytest.mark.parametrize("case", CONFIGS)
def test_there_and_back(case: str, tmp_path: Path) -> None:
    name, make = CONFIGS[case]
    theirs = filled(build(name).model, make())
    theirs.save_pretrained(tmp_path / "theirs")
    zoo = build(name)
    with torch.no_grad():
        expected = main_output(theirs(**clone_inputs(zoo.inputs)))
    adapters = gw.attach(zoo.model, sites=sites_of(name))
    assert adapters.load(tmp_path / "theirs") == "theirs"
    assert isinstance(adapters.config("theirs"), gw.IA3 if case == "ia3" else gw.LoRA)
    adapters.active = "theirs"
    with torch.no_grad():
        close(main_output(zoo.model(**clone_inputs(zoo.inputs))), expected, 1e-6)
    adapters.save("theirs", tmp_path / "ours", format="peft")
    adapters.save("theirs", tmp_path / "ours", format="peft")  # over itself
    again = peft.PeftModel.from_pretrained(build(name).model, tmp_path / "ours").eval()
    with torch.no_grad():
        close(main_output(again(**clone_inputs(zoo.inputs))), expected, 1e-6)


def classifier(labels: int = 3) -> Any:
    torch.manual_seed(0)
    config = hf.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=50,
        num_labels=labels,
    )
    return hf.BertForSequenceClassification(config).eval()


def test_its_head_comes_along_and_the_base_alone_leaves_it_aside(tmp_path: Path) -> None:
    theirs = filled(classifier(5), peft.LoraConfig(task_type="SEQ_CLS"))
    theirs.save_pretrained(tmp_path / "x")
    batch = {"input_ids": torch.randint(50, (3, 7))}
    with torch.no_grad():
        expected = theirs(**batch).logits
    model = classifier(3)
    with torch.no_grad():
        model.bert.load_state_dict(classifier(5).bert.state_dict())
    adapters = gw.attach(model)
    adapters.load(tmp_path / "x")
    assert len(adapters.labels("x").names) == 5
    adapters.active = "x"
    with torch.no_grad():
        close(model(**batch).logits, expected, 1e-6)
    adapters.save("x", tmp_path / "y", format="peft")
    assert json.loads((tmp_path / "y" / "adapter_config.json").read_text())["modules_to_save"] == ["classifier"]
    base = gw.attach(classifier().bert)
    base.load(tmp_path / "x")
    assert base.modules_of("x").keys() == adapters.modules_of("x").keys()
    with pytest.raises(gw.CheckpointError, match=r"head=False"):
        gw.attach(classifier().bert).load(tmp_path / "x", head=True)


def test_what_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    filled(build("bert").model, peft.LoraConfig()).save_pretrained(tmp_path / "x")
    path = tmp_path / "x" / "adapter_model.safetensors"
    tensors = load_file(path)
    first = next(iter(tensors))
    zoo = build("bert")
    adapters = gw.attach(zoo.model, sites=sites_of("bert"))
    for wrong in (
        {k: t for k, t in tensors.items() if k != first},
        {**tensors, first: torch.zeros(3, 3)},
        {**tensors, first.replace("layer.0", "layer.9"): torch.zeros(3, 3)},
    ):
        save_file(wrong, path)
        with pytest.raises(gw.CheckpointError):
            adapters.load(tmp_path / "x")
    save_file(tensors, path)
    settings = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
    for wrong_settings in (
        {**settings, "r": 10**9},
        {**settings, "peft_type": "NOTHING"},
        {**settings, "target_modules": "(a+)+$" * 9},
        {**settings, "megatron_config": {"a": "b"}},
        {**settings, "target_modules": "("},
        {**settings, "rank_pattern": {"(": 3}},
        [],
    ):
        (tmp_path / "x" / "adapter_config.json").write_text(json.dumps(wrong_settings))
        with pytest.raises(gw.CheckpointError):
            adapters.load(tmp_path / "x")
    path.unlink()
    with pytest.raises(gw.CheckpointError):
        adapters.load(tmp_path / "x")
    assert not adapters.names
    assert not any("graftwork" in key for key in zoo.model.state_dict())


def test_reading_draws_no_random_numbers_of_the_users(tmp_path: Path) -> None:
    filled(build("bert").model, peft.LoraConfig()).save_pretrained(tmp_path / "x")
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    state = torch.get_rng_state()
    adapters.load(tmp_path / "x")
    assert torch.equal(torch.get_rng_state(), state)


def test_what_peft_does_not_have_is_refused(tmp_path: Path) -> None:
    adapters = gw.attach(build("bert").model, sites=sites_of("bert"))
    adapters.add("p", "pfeiffer")
    adapters.add("x", "lora")
    with pytest.raises(gw.CheckpointError, match="pfeiffer adapter, which peft does not have"):
        adapters.save("p", tmp_path / "p", format="peft")
    with pytest.raises(gw.ConfigError, match="format is 'peft'"):
        adapters.save(gw.Stack("x", "p"), tmp_path / "p", format="peft")
    with pytest.raises(gw.ConfigError, match="format is 'onnx'"):
        adapters.save("x", tmp_path / "p", format="onnx")
    adapters.save("p", tmp_path / "p")
    with pytest.raises(gw.CheckpointError, match="holds something else"):
        adapters.save("x", tmp_path / "p", format="peft")
    unsettle([*adapters.modules_of("x").values()], 1)


def test_another_size_and_another_architecture_are_told(tmp_path: Path) -> None:
    filled(build("bert").model, peft.LoraConfig(target_modules=["query"])).save_pretrained(tmp_path / "a")
    wide = gw.attach(hf.BertModel(hf.BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2)))
    with pytest.raises(
        gw.CheckpointError, match=r"of another size: .*query\.lora_A\.weight is 8 × 32, and that weight 64 × 64"
    ):
        wide.load(tmp_path / "a")
    short = gw.attach(hf.BertModel(hf.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)))
    with pytest.raises(
        gw.CheckpointError, match=r"with other layers: encoder\.layer\.1\..*query is not in this BertModel"
    ):
        short.load(tmp_path / "a")
    with pytest.raises(gw.CheckpointError, match="is not in this GPT2Model; load it on one that has it"):
        gw.attach(build("gpt2").model).load(tmp_path / "a")
    assert wide.names == short.names == ()
