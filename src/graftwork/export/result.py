"""What an export made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelExport:
    """What `Adapters.export` wrote, printable.

    Attributes:
        folder: The folder.
        format: ``"onnx"`` or ``"torch"``.
        inputs: The names and sizes of the inputs; a size that is free is a name.
        outputs: Those of the outputs.
        merged: The LoRAs that are in the weights of the base now, and cost nothing.
        operators: How many operators the program has.
        max_error: The largest difference from the model's own outputs, over batches of other sizes and lengths than it was
            exported with.
    """

    folder: Path
    format: str
    inputs: Mapping[str, tuple[Any, ...]]
    outputs: Mapping[str, tuple[Any, ...]]
    merged: tuple[str, ...]
    operators: int
    max_error: float

    def __str__(self) -> str:
        def shown(tensors: Mapping[str, tuple[Any, ...]]) -> str:
            return ", ".join(f"{name} ({', '.join(map(str, sizes))})" for name, sizes in tensors.items())

        lines = [
            f"{self.folder}: {self.operators} operators, {self.format}",
            f"  inputs: {shown(self.inputs)}",
            f"  outputs: {shown(self.outputs)}",
            f"  largest difference from the model: {self.max_error:.1e}",
        ]
        if self.merged:
            lines.append(f"  in the base's weights: {', '.join(self.merged)}")
        return "\n".join(lines)
