"""Exports to ONNX: onnxruntime computes what the model does, and what the folder says of it is true."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
import torch

import graftwork as gw
from graftwork.errors import CheckpointError
from graftwork.export import onnx_file
from tests.support.attached import assert_same, bert_classifier, lively, snapshot, stir
from tests.support.exports import assert_equal_everywhere, batch, classifier, in_onnxruntime, learned


def fused(number: int) -> tuple[object, gw.Adapters]:
    names = [f"a{n}" for n in range(number)]
    model, adapters = classifier(1, **{name: gw.Pfeiffer(bottleneck_size=4) for name in names})
    learned(adapters, gw.Fuse(*names, name="fused"))
    return model, adapters


def test_a_fusion_of_eight_is_the_model_and_has_as_many_operators_as_one_of_two(tmp_path: Path) -> None:
    two = fused(2)[1].export(tmp_path / "two")
    model, adapters = fused(8)
    before, plan = snapshot(model), adapters.runtime.plan  # type: ignore[arg-type]
    eight = adapters.export(tmp_path / "eight")
    assert_same(before, snapshot(model))  # type: ignore[arg-type]
    assert adapters.runtime.plan is plan
    assert_equal_everywhere(in_onnxruntime, tmp_path / "eight", model)
    assert eight.operators == two.operators
    names = {initializer.name for initializer in onnx.load(tmp_path / "eight" / "model.onnx").graph.initializer}
    assert not any("query_weight" in name or "value_delta" in name for name in names)  # folded, and not there any more


def test_the_folder_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    model, adapters = classifier(x=gw.Pfeiffer())
    adapters.add_head("x", ["no", "maybe", "yes", "never"])
    adapters.active = "x"
    made = adapters.export(tmp_path / "x", max_length=16, task={"name": "answers"}, external_data=True)
    assert_equal_everywhere(in_onnxruntime, tmp_path / "x", model)
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["export.json", "model.onnx", "model.onnx.data"]
    said = json.loads((tmp_path / "x" / "export.json").read_text())
    assert (said["model"], said["data"], said["tokenizer"]) == ("model.onnx", "model.onnx.data", None)
    assert said["heads"][0]["labels"] == ["no", "maybe", "yes", "never"]
    assert (said["composition"], said["max_length"], said["task"]) == ("x", 16, {"name": "answers"})
    assert said["inputs"][1] == {"name": "attention_mask", "dtype": "int64", "shape": ["batch", "length"]}
    assert said["outputs"] == [{"name": "logits", "dtype": "float32", "shape": ["batch", 4]}]
    assert made.inputs["input_ids"] == ("batch", "length") and "logits (batch, 4)" in str(made)
    shape = onnx.load(tmp_path / "x" / "model.onnx", load_external_data=False).graph.input[0].type.tensor_type.shape
    assert [dim.dim_param for dim in shape.dim] == ["batch", "length"]


def test_weights_too_large_for_one_file_get_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower limit, since two gigabytes are too many for a test; and another export takes the folder's place."""
    model, adapters = classifier(x=gw.Pfeiffer())
    adapters.active = "x"
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    adapters.export(tmp_path / "x")
    assert (tmp_path / "x" / "model.onnx.data").stat().st_size > 40_000  # the weights, without the bytes of the graph
    torch.testing.assert_close(
        in_onnxruntime(tmp_path / "x", batch(2, 5)), model(**batch(2, 5)).logits, atol=1e-5, rtol=1e-5
    )
    monkeypatch.undo()
    adapters.export(tmp_path / "x", None, head=None)
    assert not (tmp_path / "x" / "model.onnx.data").exists()
    (tmp_path / "x" / "mine.txt").write_text("not to be lost")
    with pytest.raises(CheckpointError, match=r"holds something else \(mine\.txt\)"):
        adapters.export(tmp_path / "x")


def test_several_heads_of_one_base_are_outputs_of_one_program(tmp_path: Path) -> None:
    bert = bert_classifier(num_hidden_layers=1).bert
    model = gw.ModelWithHeads(bert).eval()
    adapters = gw.attach(model)
    adapters.add("x", gw.Pfeiffer())
    adapters.add_head("kind", gw.heads.Classification(labels=["a", "b"]))
    adapters.add_head("tags", gw.heads.TokenClassification(labels=["O", "B", "I"]))
    lively(adapters, "x")
    for head in ("kind", "tags"):
        stir(adapters.head_of(head).values())
    made = adapters.export(tmp_path / "x", "x", head=["kind", "tags"])
    assert made.outputs == {"logits_kind": ("batch", 2), "logits_tags": ("batch", "length", 3)}
    said = json.loads((tmp_path / "x" / "export.json").read_text())
    assert [head["labels"] for head in said["heads"]] == [["a", "b"], ["O", "B", "I"]]
    assert made.max_error < 1e-5 and adapters.active is None
