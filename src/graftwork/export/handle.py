"""The handle's method that writes a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.attach import Handle
from graftwork.compose import Composition
from graftwork.export.exporting import export_model
from graftwork.export.result import ModelExport
from graftwork.forward.heads_in_use import OWN


class Exporting(Handle):
    """A handle that can write what a composition computes as a program."""

    def export(
        self,
        folder: str | Path,
        composition: Composition = None,
        *,
        head: str | Sequence[str] | None = OWN,
        format: str = "onnx",
        processor: Any = None,
        max_length: int | None = None,
        task: Mapping[str, Any] | None = None,
        example_inputs: Mapping[str, Any] | None = None,
        external_data: bool = False,
    ) -> ModelExport:
        """Write what a composition computes as one program, with its head, to be run without this library.

        The program takes batches of any size and texts of any length. LoRAs whose weight is the same for every input are in the
        base's weights, fusions are folded. Before the folder is put in place, the program's outputs are compared with the
        model's own. The model stays as it is.

        Args:
            folder: The folder; created, or replaced where it holds an export of the same format.
            composition: The composition; by default what is active.
            head: The head in use, as with `activate`.
            format: ``"onnx"``, for onnxruntime and others, or ``"torch"``, for `torch.export.load`.
            processor: A tokenizer, or a processor of images; it is saved in the folder, and its inputs are the program's.
            max_length: The most tokens that texts are cut to, to be written down; by default the most that the model takes.
            task: JSON values about the task, to be written down.
            example_inputs: Tensors by name, rows first, where none can be made up. The second dimension of those of whole
                numbers is the length.
            external_data: Write the weights of ONNX to a file of their own. It is done anyway where they are too large for one.

        Returns:
            What was written; printable.

        Raises:
            ExportError: If a block gives out rows or positions by number, a library is missing, or torch cannot export the
                model, with torch's reason; nothing is written then.
            CheckpointError: If the folder holds something else, or cannot be written.
            ConfigError: If the format is none of the two.
            UnknownNameError: If there is nothing of a name.
            CompositionError: If the composition cannot be computed.

        Example:
            >>> made = adapters.export(folder / "exported", gw.Average("a", "b"), head="a", format="torch")
            >>> made.outputs["logits"]
            ('batch', 3)
        """
        return export_model(
            self,
            Path(folder),
            composition,
            head=head,
            format=format,
            processor=processor,
            max_length=max_length,
            task=task,
            example_inputs=example_inputs,
            external_data=external_data,
        )
