"""What the tests of exports share: a small classifier with adapters of many kinds, and batches of several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively

SIZES = ((1, 1), (1, 7), (4, 5), (3, 20))


def classifier(layers: int = 1, **methods: Any) -> tuple[Any, gw.Adapters]:
    """A BERT with a head of its own and some adapters, every weight of them off its start."""
    model = bert_classifier(num_hidden_layers=layers)
    adapters = gw.attach(model)
    for n, (name, method) in enumerate(methods.items()):
        adapters.add(name, method)
        lively(adapters, name, seed=n + 1)
    return model, adapters


def learned(adapters: gw.Adapters, block: Any, config: Any = None) -> None:
    """Add a block that learns and make it active."""
    adapters.add_fusion(block, config)
    lively(adapters, block.name)
    adapters.active = block.name


def batch(rows: int, positions: int) -> dict[str, Tensor]:
    """Tokens, the last ones of the first row padding where there are several."""
    mask = torch.ones(rows, positions, dtype=torch.long)
    mask[0, max(positions // 2, 1) :] = 0
    tokens = ids(rows, positions, seed=positions)
    return {"input_ids": tokens, "attention_mask": mask, "token_type_ids": torch.zeros_like(tokens)}


def logits(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(**inputs).logits
    return found


def in_onnxruntime(folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of an exported folder."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
    return torch.from_numpy(found)


def in_torch(folder: Path, inputs: dict[str, Tensor]) -> Tensor:
    """The same with the program of torch."""
    found: Tensor = torch.export.load(folder / "model.pt2").module()(**inputs)["logits"]
    return found


def assert_equal_everywhere(run: Any, folder: Path, model: Any) -> None:
    """The program's logits are the model's for several batch sizes and lengths, with padding."""
    for size in SIZES:
        inputs = batch(*size)
        torch.testing.assert_close(run(folder, inputs), logits(model, inputs), atol=1e-5, rtol=1e-5)
