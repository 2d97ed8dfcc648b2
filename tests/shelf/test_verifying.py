"""A folder loaded for real: right, or what is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers as hf

import graftwork as gw
from graftwork.errors import CheckpointError
from graftwork.shelf import inspect, verify
from tests.support.saved_adapters import SIZES, bert


@pytest.mark.parametrize("name", ["mrpc", "stack", "whole", "mrpc-hub", "stack-hub", "sst2-peft", "base"])
def test_what_is_whole(name: str, saved: Path) -> None:
    model = bert()
    told = str(verify(inspect(saved / name), model))
    assert told.endswith(f"{saved / name}: OK") and "all finite" in told and "forward pass: finite" in told
    assert not any("graftwork" in path for path, _ in model.named_modules()), "nothing is left on the model"


def test_a_fusion_with_its_pool(saved: Path) -> None:
    found = inspect(saved / "fusion")
    with pytest.raises(CheckpointError, match="--with FOLDER"):
        verify(found, bert())
    assert "OK" in str(verify(found, bert(), pool=[saved / "mrpc", saved / "rte"]))


def test_a_head_by_itself(made: Path, tmp_path: Path) -> None:
    model = gw.ModelWithHeads(hf.AutoModel.from_pretrained(made / "model"))
    adapters = gw.attach(model)
    adapters.add_head("h", gw.heads.Classification(labels=2))
    adapters.save("h", tmp_path / "h")
    adapters.detach()
    assert "another form of outputs" in str(verify(inspect(tmp_path / "h"), model))


def test_values_that_are_not_finite(saved: Path, tmp_path: Path) -> None:
    adapters = gw.attach(bert())
    adapters.load(saved / "mrpc")
    with torch.no_grad():
        adapters.modules_of("mrpc")["encoder.layer.1.feed_forward"].up[0, 0] = float("nan")  # type: ignore[index, operator]
    adapters.save("mrpc", tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"1 of its tensors .* not finite, such as 'mrpc: encoder\.layer\.1"):
        verify(inspect(tmp_path / "a"), bert())


def test_tensors_of_another_save(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved / "mrpc", tmp_path / "a")
    path = tmp_path / "a" / "adapter.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: tensor + 1 for name, tensor in tensors.items()}, path)
    assert inspect(tmp_path / "a").damage is None, "a header cannot show it"
    with pytest.raises(CheckpointError, match=r"is not the file that graftwork\.json next to it was written with"):
        verify(inspect(tmp_path / "a"), bert())


def test_other_weights_of_the_base(saved: Path) -> None:
    torch.manual_seed(1)
    other = hf.BertForSequenceClassification(hf.BertConfig(**SIZES, num_labels=3)).eval()
    with pytest.raises(CheckpointError, match="another revision of the base"):
        verify(inspect(saved / "mrpc"), other)
