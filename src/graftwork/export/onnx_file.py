"""A program as ONNX, and its outputs in onnxruntime. onnx, onnxscript and onnxruntime are the extra `export`."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graftwork.errors import ExportError
from graftwork.export.inputs import Inputs
from graftwork.export.program import silent

DATA = ".data"  # what the file of the weights is called behind the name of the model's
LARGEST = 3 * 2**29  # bytes of weights in one file: protobuf has no message of more than 2 GiB
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Refuse where one of the libraries is missing.

    Raises:
        ExportError: Naming it.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"format='onnx' needs {' and '.join(missing)}: pip install graftwork[export]")


def to_onnx(program: Any, inputs: Inputs, outputs: list[str]) -> Any:
    """The program in ONNX.

    Raises:
        ExportError: With the reason, where an operator has no form in ONNX.
    """
    try:
        with silent(), _quiet_logs():
            return torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=list(inputs.example),
                output_names=outputs,
                dynamic_shapes=inputs.shapes(),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            )
    except Exception as error:  # torch raises errors of many kinds here
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        lines = [line.strip() for line in str(root).splitlines() if line.strip()]
        raise ExportError(
            f"torch.onnx.export cannot write the program as ONNX; its reason: {type(root).__name__}: {' '.join(lines[:3])}"
        ) from error


def _stable_sort(self: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """A stable sort in ONNX, for which torch has no form: TopK of all, among equals the first (the sort of a `Route`'s gate)."""
    from onnxscript import opset18

    op: Any = opset18  # its types know no value of which nothing is said
    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    return op.TopK(self, size, axis=dim, largest=int(descending), sorted=1)


def write_onnx(made: Any, path: Path, external_data: bool) -> None:
    """Write the model, and its weights to a file of their own where that is asked for, or they are too large."""
    size = sum(tensor.const_value.nbytes for tensor in made.model.graph.initializers.values() if tensor.const_value)
    with silent():
        made.save(path, external_data=external_data or size > LARGEST)


def operators_of(made: Any) -> int:
    """How many operators a model of ONNX has."""
    return len(list(made.model.graph))


class Session:
    """A written model in onnxruntime, on the CPU.

    Raises:
        ExportError: If onnxruntime does not load it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common class
            raise ExportError(f"onnxruntime does not load the program; its reason: {error}") from error
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, **inputs: Tensor) -> Mapping[str, Tensor]:
        """The outputs by name."""
        arrays = {one.name: inputs[one.name].numpy() for one in self.session.get_inputs()}
        found = self.session.run(None, arrays)
        return dict(zip(self.names, map(torch.from_numpy, found), strict=True))


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Without the lines that torch logs about libraries that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
