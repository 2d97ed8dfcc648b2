"""One export, from the checks to the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graftwork.attach import Handle, ModelWithHeads
from graftwork.checkpoint.folders import replacing, require_ours, sync
from graftwork.checkpoint.json_files import dump
from graftwork.compose import BatchSplit, Block, Composition, MixedBatch, Replicate, Split
from graftwork.errors import ConfigError, ExportError
from graftwork.export.facts import facts
from graftwork.export.inputs import Inputs
from graftwork.export.onnx_file import DATA, Session, operators_of, require_onnx, to_onnx, write_onnx
from graftwork.export.private_copy import make_constants, merge_loras, private_copy
from graftwork.export.program import program_of, silent, tensors_of
from graftwork.export.result import ModelExport
from graftwork.forward.heads_in_use import OWN, heads_in_use

MARKER = "export.json"
FILES = {"onnx": "model.onnx", "torch": "model.pt2"}
TOKENIZER = "tokenizer"
_CLOSE = {torch.float64: 1e-8, torch.float32: 1e-4}  # of the largest output; 3e-2 in half precision

Run = Callable[..., Mapping[str, Tensor]]


def export_model(
    handle: Handle,
    folder: Path,
    composition: Composition,
    *,
    head: Any = OWN,
    format: str = "onnx",
    processor: Any = None,
    max_length: int | None = None,
    task: Mapping[str, Any] | None = None,
    example_inputs: Mapping[str, Any] | None = None,
    external_data: bool = False,
) -> ModelExport:
    """Write what a composition computes as one program; see `graftwork.export.handle.Exporting.export`."""
    if format not in FILES:
        raise ConfigError(f"export: format is {format!r}; give 'onnx' or 'torch'")
    if composition is None:
        composition, head = handle.active, handle.runtime.head if head == OWN else head
    refuse_by_number(composition)
    if format == "onnx":
        require_onnx()
    replaced = _names(format, folder)
    if folder.exists():
        require_ours(folder, replaced, MARKER)
    made = private_copy(handle)
    made.activate(composition, head=head)
    inputs = Inputs(
        made.model, example_inputs, decodes=_decodes(made, head), names=getattr(processor, "model_input_names", ())
    )
    batches = inputs.compared()
    expected = [_outputs(made.model, batch) for batch in batches]
    known = facts(made, composition, head, expected[0])
    merged = merge_loras(made, head)
    make_constants(made, inputs.traced())
    program = program_of(made, inputs)
    outputs = list(expected[0])
    with replacing(folder, MARKER, replaced) as aside:
        aside.mkdir()
        path = aside / FILES[format]
        run: Run
        if format == "onnx":
            onnx = to_onnx(program, inputs, outputs)
            write_onnx(onnx, path, external_data)
            run, operators = Session(path), operators_of(onnx)
        else:
            with silent():
                torch.export.save(program, path)
                run = torch.export.load(path).module()
            operators = sum(node.op == "call_function" for node in program.graph.nodes)
        error = _compare(run, batches, expected, composition)
        if processor is not None:
            processor.save_pretrained(aside / TOKENIZER)
        sizes = _sizes(inputs, batches, expected)
        report = ModelExport(folder, format, *sizes, merged, operators, error)
        data = path.with_name(path.name + DATA)
        content = {
            **known,
            "format": format,
            "model": path.name,
            "data": data.name if data.exists() else None,
            "tokenizer": None if processor is None else TOKENIZER,
            "task": None if task is None else dict(task),
            "max_length": max_length or inputs.limits["length"],
            "inputs": _described(inputs.example, report.inputs),
            "outputs": _described(expected[0], report.outputs),
            "merged": list(merged),
        }
        (aside / MARKER).write_bytes(dump(content))
        for one in aside.rglob("*"):
            sync(one)
    return report


def refuse_by_number(composition: Composition) -> None:
    """Refuse blocks that give out rows or positions by their numbers: a program is for batches of any size.

    Raises:
        ExportError: Naming the block.
    """
    for block in composition.walk() if isinstance(composition, Block) else ():
        if isinstance(block, (BatchSplit, MixedBatch, Replicate, Split)):
            what = "positions" if isinstance(block, Split) else "rows"
            raise ExportError(
                f"{block!r} gives out {what} by their numbers, and an exported program takes batches of any size; export what "
                "each of them uses to a folder of its own"
            )


def _names(format: str, folder: Path) -> list[str]:
    """The files that an export may have written before, to be replaced."""
    tokenizer = [f"{TOKENIZER}/{p.name}" for p in (folder / TOKENIZER).glob("*")]
    return [MARKER, FILES[format], FILES[format] + DATA, TOKENIZER, *tokenizer]


def _decodes(handle: Handle, head: Any) -> bool:
    """Whether a decoder is given its inputs by the caller: where no head makes them of the encoder's."""
    if not isinstance(handle.model, ModelWithHeads):
        return True
    chosen = heads_in_use(handle.active, head, handle.head_labels, handle.head_for)
    heads = [chosen] if isinstance(chosen, str) else getattr(chosen, "names", ())
    modules = [module for name in heads for module in handle.head_of(name).values()]
    return not modules or any(getattr(module, "decodes", False) for module in modules)


@torch.no_grad()
def _outputs(model: Any, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return tensors_of(model(**batch))


@torch.no_grad()
def _compare(
    run: Run, batches: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], composition: Composition
) -> float:
    """The largest difference of a program's outputs from the model's.

    Raises:
        ExportError: If it is too large, or the program fails.
    """
    largest = 0.0
    for batch, wanted in zip(batches, expected, strict=True):
        shape = tuple(next(iter(batch.values())).shape)
        try:
            found = run(**batch)
        except Exception as error:  # of torch, or of onnxruntime
            raise ExportError(f"the program of {composition!r} fails for a batch {shape}: {error}") from error
        for name, value in wanted.items():
            difference = _difference(found[name], value)
            largest = max(largest, difference)
            size = max(1.0, float(value.double().nan_to_num(posinf=0.0, neginf=0.0).abs().max()))
            if not difference <= _CLOSE.get(value.dtype, 3e-2) * size:
                raise ExportError(
                    f"the program of {composition!r} computes something else than the model: for a batch {shape} {name!r} differs "
                    f"by {difference:.1e}; it is not written"
                )
    return largest


def _difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two tensors, infinite where their shapes or what is not finite in them differ."""
    if found.shape != wanted.shape:
        return float("inf")
    found, wanted = found.double(), wanted.double()
    same = (found == wanted) | (found.isnan() & wanted.isnan())
    return float((found - wanted).abs().masked_fill(same, 0.0).max()) if found.numel() else 0.0


def _sizes(
    inputs: Inputs, batches: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]
) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """The sizes of inputs and outputs, free ones by name: an output's are those that follow an input's in every batch."""
    free = inputs.free
    into = {name: tuple(free[name].get(n, size) for n, size in enumerate(t.shape)) for name, t in batches[0].items()}
    known = {
        size: [batch[name].shape[dim] for batch in batches] for name, dims in free.items() for dim, size in dims.items()
    }
    out = {}
    for name, tensor in expected[0].items():
        sizes: list[Any] = []
        for dim in range(tensor.dim()):
            seen = [outputs[name].shape[dim] for outputs in expected]
            sizes.append(next((size for size, values in known.items() if values == seen), seen[0]))
        out[name] = tuple(sizes)
    return into, out


def _described(tensors: Mapping[str, Tensor], sizes: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(sizes[name])}
        for name, tensor in tensors.items()
    ]
