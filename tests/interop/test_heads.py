"""Heads of AdapterHub's library, both ways."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

import graftwork as gw
from tests.interop.common import (
    METHODS,
    ah,
    headed,
    move,
    run,
    theirs,
)
from tests.interop.table import Shown
from tests.support.attached import made
from tests.support.interpreter import close
from tests.zoo.models import build, clone_inputs
from tests.zoo.registry import PAD

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
def test_heads(name: str, case: str, tmp_path: Path, shown: Shown) -> None:
    cell = "heads", case, name
    zoo = build(name)
    add, options = HEADS[case]
    config = copy.deepcopy(zoo.model.config)
    config.pad_token_id = PAD  # without one, they take a decoder's last position for that of every row
    model = ah.AutoAdapterModel.from_config(config)
    head_type = {"add_qa_head": "question_answering"}.get(add, add.removeprefix("add_").removesuffix("_head"))
    if head_type not in model.head_types:
        shown(*cell, "not there")
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
    shown(*cell, "read")
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
    shown(*cell, "written")


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
