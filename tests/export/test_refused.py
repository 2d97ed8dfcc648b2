"""What cannot be exported is refused by name, with the model as it was and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import graftwork as gw
from graftwork.errors import CheckpointError, ConfigError, ExportError, UnknownNameError
from graftwork.export import exporting, onnx_file
from tests.support.attached import assert_same, snapshot
from tests.support.exports import classifier

SMALL = gw.Pfeiffer(bottleneck_size=4)


@pytest.fixture
def standing() -> tuple[Any, gw.Adapters]:
    model, adapters = classifier(x=SMALL, y=SMALL)
    adapters.active = "x"
    return model, adapters


@pytest.mark.parametrize(
    "composition",
    [
        gw.MixedBatch(["x", "y"]),
        gw.BatchSplit("x", "y", batch_sizes=2),
        gw.Replicate("x", "y"),
        gw.Split("x", "y", splits=[2, 3]),
        gw.Stack("x", gw.MixedBatch(["x", "y"])),
    ],
    ids=str,
)
def test_rows_and_positions_by_number(composition: Any, standing: Any, tmp_path: Path) -> None:
    kind = "Split" if "Split('x'" in repr(composition) else "gives out"
    with pytest.raises(ExportError, match=rf"{kind}.*by their numbers"):
        standing[1].export(tmp_path / "new", composition)
    assert not list(tmp_path.iterdir())


def test_names_formats_and_folders(standing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapters = standing
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="format is 'tflite'"):
        adapters.export(tmp_path / "new", format="tflite")
    with pytest.raises(UnknownNameError, match="'z'"):
        adapters.export(tmp_path / "new", "z")
    with pytest.raises(CheckpointError, match="holds something else"):
        adapters.export(tmp_path / "taken", "x")
    with pytest.raises(ExportError, match=r"example_inputs\['input_ids'\] is 3"):
        adapters.export(tmp_path / "new", "x", example_inputs={"input_ids": 3})
    monkeypatch.setattr(onnx_file, "_NEEDED", ("onnx", "no_such_library"))
    with pytest.raises(ExportError, match=r"needs no_such_library: pip install graftwork\[export\]"):
        adapters.export(tmp_path / "new", "x")
    assert [p.name for p in tmp_path.rglob("*")] == ["taken", "mine.txt"]


def test_torch_gives_its_reason(standing: Any, tmp_path: Path) -> None:
    """A model that looks at its values cannot be exported without adapters either, and the message says so."""
    model, adapters = standing
    own = type(model).forward

    class Looking(type(model)):  # type: ignore[misc]
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            if input_ids.sum() > 1000:
                raise RuntimeError("too many")
            return own(self, input_ids=input_ids, attention_mask=attention_mask)

    model.__class__ = Looking
    before, plan = snapshot(model), adapters.runtime.plan
    with pytest.raises(ExportError, match=r"cannot export this Looking without adapters either; torch's reason: \w+"):
        adapters.export(tmp_path / "new", format="torch")
    assert_same(before, snapshot(model))
    assert adapters.runtime.plan is plan and not list(tmp_path.iterdir())


def test_a_program_that_computes_something_else_is_not_written(
    standing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, adapters = standing
    found = exporting.program_of

    def wrong(handle: Any, inputs: Any) -> Any:
        handle.active = "y"
        return found(handle, inputs)

    monkeypatch.setattr(exporting, "program_of", wrong)
    before = snapshot(model)
    with pytest.raises(ExportError, match=r"'x' computes something else than the model: for a batch \(1, 3\) 'logits'"):
        adapters.export(tmp_path / "new", format="torch")
    assert_same(before, snapshot(model))
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_here(standing: Any, tmp_path: Path) -> None:
    model, adapters = standing
    model.classifier.to(torch.device("meta"))
    with pytest.raises(ExportError, match=r"'classifier.weight' is not in memory"):
        adapters.export(tmp_path / "new")
