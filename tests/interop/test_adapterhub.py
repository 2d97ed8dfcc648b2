"""AdapterHub's library itself, in one process: what it writes is read here with the same outputs, and the reverse.

It needs `adapters` 1.3.0 and the transformers that this wants: ``make test-interop``.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from tests.support.attached import made
from tests.support.interpreter import close
from tests.zoo.models import build, clone_inputs, main_output
from tests.zoo.registry import PAD

ah = pytest.importorskip("adapters", reason="AdapterHub's library is in the environment of `make test-interop` only")

MODELS = ("bert", "roberta", "distilbert", "deberta_v2", "gpt2", "t5", "bart", "vit")
SMALL: dict[str, Any] = {"reduction_factor": 4}
METHODS: dict[str, Any] = {
    "seq_bn": ah.SeqBnConfig(**SMALL),
    "double_seq_bn": ah.DoubleSeqBnConfig(**SMALL),
    "par_bn": ah.ParBnConfig(**SMALL),
    "learned scale": ah.ParBnConfig(**SMALL, scaling="learned"),
    "channels": ah.AdapterPlusConfig(**SMALL, stochastic_depth=0.0),
    "norms": ah.SeqBnConfig(**SMALL, ln_before=True, ln_after=True),
    "layers": ah.DoubleSeqBnConfig(reduction_factor={"0": 2, "default": 8}, non_linearity="gelu", leave_out=[1]),
    "up": ah.SeqBnConfig(reduction_factor=0.5),
    "everywhere": ah.BnConfig(True, True, 4, "leakyrelu", cross_adapter=True),
    "phm": ah.DoubleSeqBnConfig(**SMALL, phm_layer=True, shared_phm_rule=False, factorized_phm_W=False),
    "phm, factors": ah.SeqBnConfig(
        **SMALL, phm_layer=True, shared_phm_rule=False, factorized_phm_rule=True, phm_rank=2
    ),
    "invertible": ah.SeqBnInvConfig(**SMALL, inv_adapter_reduction_factor=4),
    "prefix": ah.PrefixTuningConfig(prefix_length=3, bottleneck_size=5),
    "prefix, flat": ah.PrefixTuningConfig(prefix_length=3, flat=True),
    "lora": ah.LoRAConfig(r=3, alpha=5),
    "lora, all": ah.LoRAConfig(
        r=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[0]
    ),
    "lora, key": ah.LoRAConfig(attn_matrices=["k"]),
    "ia3": ah.IA3Config(),
    "ia3, output": ah.IA3Config(attn_matrices=["q", "k", "v"], output_lora=True),
}
# Written by a model with a head: without one their library leaves the rule out of the file.
WITH_RULE = {
    "compacter": ah.CompacterConfig(**SMALL),
    "compacter++": ah.CompacterPlusPlusConfig(**SMALL),
    "shared W": ah.CompacterConfig(**SMALL, shared_W_phm=True),
    "factors of the rule": ah.CompacterConfig(**SMALL, factorized_phm_rule=True),
}
WITH_HEADS: dict[str, Any] = {
    "bert": hf.BertForMaskedLM,
    "roberta": hf.RobertaForMaskedLM,
    "distilbert": hf.DistilBertForMaskedLM,
    "deberta_v2": hf.DebertaV2ForMaskedLM,
    "gpt2": hf.GPT2LMHeadModel,
    "t5": hf.T5ForConditionalGeneration,
    "bart": hf.BartForConditionalGeneration,
    "vit": hf.ViTForImageClassification,
}


def theirs(model: Any, config: Any, name: str = "a") -> None:
    """Their adapter on a model, active, every weight of it moved off its start."""
    if not hasattr(model, "adapters_config"):
        ah.init(model)
    model.add_adapter(name, config=config)
    model.set_active_adapters(name)
    move(model, name)


def move(model: Any, name: str) -> None:
    draw = torch.Generator().manual_seed(sum(name.encode()))
    with torch.no_grad():
        for key, p in model.eval().named_parameters():
            if f".{name}." in f".{key}":
                p.add_(torch.randn(p.shape, generator=draw), alpha=0.2)


def run(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return main_output(model(**clone_inputs(inputs)))


def eager(model: Any) -> Any:
    """The same model with the plain attention."""
    made = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager")
    made.load_state_dict(model.state_dict())
    return made.eval()


def differs(one: torch.Tensor, other: torch.Tensor) -> None:
    assert not torch.allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_read_as_they_write_it_and_written_as_they_read_it(name: str, method: str, tmp_path: Path) -> None:
    if method == "invertible" and name == "vit":
        pytest.skip("they have no invertible adapters for images")
    zoo = build(name)
    # With sdpa, their masks of keys with a prefix are wrong in these two.
    make = eager if "prefix" in method and name in ("bart", "distilbert") else copy.deepcopy
    plain = run(zoo.model, zoo.inputs)
    model = make(zoo.model)
    theirs(model, METHODS[method])
    expected = run(model, zoo.inputs)
    if name != "gpt2" or "prefix" not in method:
        differs(expected, plain)
    model.save_adapter(tmp_path / "theirs", "a", use_safetensors=method != "norms" and "prefix" not in method)
    adapters = gw.attach(zoo.model)
    if method == "invertible" and name in ("t5", "bart"):
        with pytest.raises(gw.CheckpointError, match="encoder's embeddings alone"):
            adapters.load(tmp_path / "theirs")
        return
    if "prefix" in method and name == "deberta_v2":
        return  # peft's prefix does not go in front of this attention
    if "prefix" in method and name in ("gpt2", "t5"):
        with pytest.raises(gw.CheckpointError, match=r"positions of the text|distances between"):
            adapters.load(tmp_path / "theirs")
        return
    assert adapters.load(tmp_path / "theirs") == "a"
    with adapters.using("a"):
        close(run(zoo.model, zoo.inputs), expected, 1e-5)
    if name == "gpt2" and method.startswith("lora"):
        with pytest.raises(gw.CheckpointError, match="one LoRA for each"):
            adapters.save("a", tmp_path / "ours", format="adapterhub")
        return
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    again = make(build(name).model)
    ah.init(again)
    found: dict[str, Any] = {}
    again.load_adapter(str(tmp_path / "ours"), loading_info=found, set_active=True)
    missing = [key for key in found["missing_keys"] if ".pool." not in key]  # the same tensors again, in every layer
    assert not missing and not found["unexpected_keys"]
    close(run(again.eval(), zoo.inputs), expected, 1e-5)


def headed(name: str) -> tuple[Any, dict[str, Any]]:
    """A model with a head of its own around a model of the zoo, and inputs."""
    zoo = build(name)
    return made(WITH_HEADS[name], zoo.model.config), zoo.inputs


@pytest.mark.parametrize("method", [*WITH_RULE, "seq_bn", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_from_and_to_a_model_with_a_head(name: str, method: str, tmp_path: Path) -> None:
    plain, inputs = headed(name)
    model = copy.deepcopy(plain)
    theirs(model, {**METHODS, **WITH_RULE}[method])
    expected = run(model, inputs)
    differs(expected, run(plain, inputs))
    model.save_adapter(tmp_path / "theirs", "a", with_head=False)
    adapters = gw.attach(plain)
    if name == "t5" and method in WITH_RULE:  # where a model is its own base they leave it out too
        with pytest.raises(gw.CheckpointError, match="lacks the rule"):
            adapters.load(tmp_path / "theirs")
        return
    adapters.load(tmp_path / "theirs")
    with adapters.using("a"):
        close(run(plain, inputs), expected, 1e-5)
    if name == "gpt2" and method == "lora":
        return
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    again, _ = headed(name)
    ah.init(again)
    again.load_adapter(str(tmp_path / "ours"), set_active=True)
    close(run(again.eval(), inputs), expected, 1e-5)


def test_a_rule_that_they_left_out_is_named(tmp_path: Path) -> None:
    zoo = build("bert")
    model = copy.deepcopy(zoo.model)
    theirs(model, WITH_RULE["compacter"])
    model.save_adapter(tmp_path / "theirs", "a")
    with pytest.raises(gw.CheckpointError, match="lacks the rule"):
        gw.attach(zoo.model).load(tmp_path / "theirs")


FUSIONS: dict[str, Any] = {
    "static": ah.StaticAdapterFusionConfig(),
    "dynamic": ah.DynamicAdapterFusionConfig(),
    "query before the norm": ah.DynamicAdapterFusionConfig(query_before_ln=True),
    "residual before": ah.DynamicAdapterFusionConfig(residual_before=True),
    "after the softmax": ah.DynamicAdapterFusionConfig(value_before_softmax=False, regularization=False),
}


def fused(model: Any, config: Any, of: Any, name: str) -> None:
    """Two adapters of theirs and a fusion over them, active, all weights moved."""
    for n, one in enumerate(("b", "a")):
        theirs(model, of(reduction_factor=4 + 4 * n), one)
    block = ah.Fuse("b", "a", name=name)
    model.add_adapter_fusion(block, config, name=name)
    model.set_active_adapters(block)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, p in model.eval().named_parameters():
            if "adapter_fusion_layer" in key:
                p.add_(torch.randn(p.shape, generator=draw), alpha=0.2)


@pytest.mark.parametrize("config", FUSIONS)
@pytest.mark.parametrize("of", ["SeqBnConfig", "DoubleSeqBnConfig"])
@pytest.mark.parametrize("name", MODELS)
def test_fusions(name: str, of: str, config: str, tmp_path: Path) -> None:
    plain, inputs = headed(name)
    model = copy.deepcopy(plain)
    fused(model, FUSIONS[config], getattr(ah, of), "both")
    expected = run(model, inputs)
    for one in "ab":
        model.save_adapter(tmp_path / one, one)
    model.save_adapter_fusion(tmp_path / "both", ah.Fuse("b", "a", name="both"))
    adapters = gw.attach(plain)
    for one in ("a", "b", "both"):
        assert adapters.load(tmp_path / one) == one
    with adapters.using(adapters.fusions["both"]):
        close(run(plain, inputs), expected, 1e-5)
    for one in ("a", "b", "both"):
        adapters.save(one, tmp_path / f"our {one}", format="adapterhub")
    again, _ = headed(name)
    ah.init(again)
    for one in "ab":
        again.load_adapter(str(tmp_path / f"our {one}"))
    again.load_adapter_fusion(str(tmp_path / "our both"))
    again.set_active_adapters(ah.Fuse("b", "a", name="both"))
    close(run(again.eval(), inputs), expected, 1e-5)


def test_fusions_that_are_wrong_there_are_refused(tmp_path: Path) -> None:
    plain, _ = headed("bert")
    model = copy.deepcopy(plain)
    fused(model, FUSIONS["dynamic"], ah.ParBnConfig, "both")
    for one in "ab":
        model.save_adapter(tmp_path / one, one)
    model.save_adapter_fusion(tmp_path / "both", ah.Fuse("b", "a", name="both"))
    adapters = gw.attach(plain)
    with pytest.raises(gw.UnknownNameError, match="load it first"):
        adapters.load(tmp_path / "both")
    for one in "ab":
        adapters.load(tmp_path / one)
    with pytest.raises(gw.CheckpointError, match="residual connection twice"):
        adapters.load(tmp_path / "both")
    assert not adapters.fusions


SETUPS: dict[str, Any] = {
    "stack": ah.Stack("a", "b"),
    "fuse": ah.Fuse("a", "b"),
    "stack of a fusion": ah.Stack("c", ah.Fuse("a", "b")),
    "batch split": ah.BatchSplit("a", "b", batch_sizes=[1, 2]),
    "split": ah.Split("a", "b", splits=[3, 4]),
    "parallel": ah.Parallel("a", "b"),
}


@pytest.mark.parametrize("case", [*SETUPS, "average", "nested", "fuse of a stack"])
def test_setups(case: str, tmp_path: Path) -> None:
    wrong = {
        "average": ah.composition.Average("a", "b"),
        "nested": ah.BatchSplit(ah.Stack("a", "b"), "c", batch_sizes=[1, 2]),
        "fuse of a stack": ah.Fuse(ah.Stack("a", "b"), "c"),
    }
    zoo = build("bert")
    inputs = {"input_ids": torch.randint(4, 90, (3, 7))}
    model = copy.deepcopy(zoo.model)
    for one in "abc":
        theirs(model, METHODS["seq_bn"], one)
    setup = {**SETUPS, **wrong}[case]
    if "fus" in case:
        model.add_adapter_fusion(["b", "c"] if case in wrong else ["a", "b"])
    model.save_adapter_setup(tmp_path / "s", setup)
    adapters = gw.attach(zoo.model)
    if case in wrong:
        with pytest.raises(gw.CheckpointError, match=r"version 1\.3\.0"):
            adapters.load(tmp_path / "s")
        assert not adapters.names
        return
    model.set_active_adapters(setup)
    expected, composition = run(model, inputs), adapters.load(tmp_path / "s")
    with adapters.using(composition):
        close(run(zoo.model, inputs), expected, 1e-5)
    for _ in range(2):
        adapters.save(composition, tmp_path / "ours", format="adapterhub")
    again = build("bert").model
    ah.init(again)
    again.load_adapter_setup(str(tmp_path / "ours"), set_active=True)
    close(run(again.eval(), inputs), expected, 1e-5)


HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("add_classification_head", {"num_labels": 3}),
    "one layer": ("add_classification_head", {"num_labels": 3, "layers": 1, "id2label": {0: "x", 1: "y", 2: "z"}}),
    "regression": ("add_classification_head", {"num_labels": 1, "activation_function": "relu"}),
    "several labels": ("add_classification_head", {"num_labels": 3, "multilabel": True}),
    "choices": ("add_multiple_choice_head", {"num_choices": 3}),
    "tags": ("add_tagging_head", {"num_labels": 4}),
    "questions": ("add_qa_head", {}),
    "images": ("add_image_classification_head", {"num_labels": 3, "multilabel": True}),
}


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "deberta_v2", "gpt2", "vit"])
@pytest.mark.parametrize("case", HEADS)
def test_heads(name: str, case: str, tmp_path: Path) -> None:
    zoo = build(name)
    add, options = HEADS[case]
    config = copy.deepcopy(zoo.model.config)
    config.pad_token_id = PAD  # without one, they take a decoder's last position for that of every row
    model = ah.AutoAdapterModel.from_config(config)
    head_type = {"add_qa_head": "question_answering"}.get(add, add.removeprefix("add_").removesuffix("_head"))
    if head_type not in model.head_types:
        pytest.skip(f"{name} has no such head there")
    model.base_model.load_state_dict(zoo.model.state_dict(), strict=False)
    theirs(model, METHODS["seq_bn"])
    getattr(model, add)("a", **options)
    move(model, "a")
    inputs = {
        key: value[:2] for key, value in zoo.inputs.items() if key in ("input_ids", "attention_mask", "pixel_values")
    }
    if case == "choices":
        inputs = {
            key: value[:1].repeat(3, 1) + torch.arange(3)[:, None] * (key == "input_ids")
            for key, value in inputs.items()
        }
        given = {key: value[None] for key, value in inputs.items()}
    else:
        given = inputs
    with torch.no_grad():
        out = model(**given, head="a")
    expected = torch.stack([out.start_logits, out.end_logits], -1) if case == "questions" else out.logits
    model.save_adapter(tmp_path / "theirs", "a")
    again = gw.ModelWithHeads(zoo.model)
    adapters = gw.attach(again)
    adapters.load(tmp_path / "theirs", head=True)
    with adapters.using("a"), torch.no_grad():
        logits = again(**inputs).logits
    here = torch.ones_like(expected, dtype=torch.bool)
    if case == "questions" and "attention_mask" in inputs:  # padding is no candidate for an answer here
        here = (inputs["attention_mask"] != 0)[..., None].expand_as(expected)
    close(torch.where(here, logits, 0), torch.where(here, expected, 0), 1e-5)
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    back = ah.AutoAdapterModel.from_config(config)
    back.base_model.load_state_dict(
        {k: t for k, t in zoo.model.state_dict().items() if "graftwork" not in k}, strict=False
    )
    back.load_adapter(str(tmp_path / "ours"), set_active=True)
    with torch.no_grad():
        out = back.eval()(**given, head="a")
    found = torch.stack([out.start_logits, out.end_logits], -1) if case == "questions" else out.logits
    close(found, expected, 1e-5)


def test_the_head_of_a_class_of_transformers(tmp_path: Path) -> None:
    zoo = build("bert")
    plain = made(hf.BertForSequenceClassification, zoo.model.config)
    model = copy.deepcopy(plain)
    theirs(model, METHODS["seq_bn"])
    with torch.no_grad():
        model.classifier.weight.add_(1)
    expected = run(model, zoo.inputs)
    model.save_adapter(tmp_path / "theirs", "a")
    adapters = gw.attach(plain)
    adapters.load(tmp_path / "theirs")
    with adapters.using("a"):
        close(run(plain, zoo.inputs), expected, 1e-5)
    adapters.save("a", tmp_path / "ours", format="adapterhub")
    again = made(hf.BertForSequenceClassification, zoo.model.config)
    ah.init(again)
    again.load_adapter(str(tmp_path / "ours"), set_active=True)
    close(run(again.eval(), zoo.inputs), expected, 1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_the_inverse_of_an_invertible_adapter_is_that_of_their_heads(name: str, tmp_path: Path) -> None:
    plain, inputs = headed(name)
    plain.save_pretrained(tmp_path / "model")
    model = ah.AutoAdapterModel.from_pretrained(str(tmp_path / "model"))  # its head as one of theirs, called "default"
    theirs(model, METHODS["invertible"])
    with torch.no_grad():
        bias = plain.get_output_embeddings().bias
        if bias is not None:  # which is lost on the way
            model.heads["default"].get_output_embeddings().bias.copy_(bias)
        expected = model(**clone_inputs(inputs), head="default").logits
    model.save_adapter(tmp_path / "theirs", "a", with_head=False)
    adapters = gw.attach(plain)
    adapters.load(tmp_path / "theirs")
    with adapters.using("a"):
        close(run(plain, inputs), expected, 1e-5)
