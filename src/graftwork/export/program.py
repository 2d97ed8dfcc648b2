"""From a model to a program of torch (`torch.export.ExportedProgram`), with named inputs and outputs."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind

from graftwork.attach import Handle
from graftwork.errors import ExportError
from graftwork.export.inputs import Inputs
from graftwork.methods.layers.weight_cache import only_kept

_LINES = 3  # of torch's own message


class Tensors(nn.Module):
    """A model with tensors in and out, by name: the shape that programs have.

    Args:
        model: The model.
        names: The names of its inputs, in order.
    """

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        parameters = inspect.signature(model.forward).parameters
        fixed: dict[str, Any] = {"use_cache": False} if "use_cache" in parameters else {}

        def forward(*args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
            return tensors_of(model(**dict(zip(names, args, strict=False)), **kwargs, **fixed))

        # torch.export takes the inputs by the names of the parameters, which differ from model to model.
        one = inspect.Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = inspect.Signature([inspect.Parameter(name, one) for name in names])  # type: ignore[attr-defined]
        self.__dict__["forward"] = forward


def tensors_of(output: Any) -> dict[str, Tensor]:
    """The tensors of a model's output, by name: of several heads, one each.

    Raises:
        ExportError: If there are none.
    """
    if isinstance(output, Tensor):
        return {"output": output}
    named = dict(output) if isinstance(output, Mapping) else {}
    found = {name: value for name, value in named.items() if isinstance(value, Tensor) and name != "loss"}
    for head, own in (named.get("by_head") or {}).items():
        found[f"logits_{head}"] = own.logits
    # What a decoder passes on of its encoder is no answer.
    found = {name: value for name, value in found.items() if not name.startswith("encoder_")}
    if not found:
        raise ExportError(
            f"the model returns a {type(output).__name__} without named tensors, which no program can name"
        )
    return found


def program_of(handle: Handle, inputs: Inputs) -> Any:
    """The program of what is active in a private copy, without weights that it does not use.

    Raises:
        ExportError: With torch's reason.
    """
    try:
        program = _exported(handle.model, inputs)
    except Exception as error:  # torch raises errors of many kinds here
        reason = _reason(error)
        with handle.using(None, head=None):
            try:
                _exported(handle.model, inputs)
            except Exception as bare:
                raise ExportError(
                    f"torch.export cannot export this {type(handle.model).__name__} without adapters either; torch's reason: "
                    f"{_reason(bare)}"
                ) from bare
        raise ExportError(f"torch.export cannot export {handle.active!r}; torch's reason: {reason}") from error
    _drop_unused(program)
    return program


def _exported(model: nn.Module, inputs: Inputs) -> Any:
    with torch.no_grad(), only_kept(), silent():
        return torch.export.export(
            Tensors(model, list(inputs.example)).eval(),
            (),
            inputs.traced(),
            dynamic_shapes=inputs.shapes(),
            strict=False,
        )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:_LINES])}"


def _drop_unused(program: Any) -> None:
    """Take out what no output needs: a head or a norm that another stands in for, weights that are folded, idle adapters."""
    graph, signature = program.graph_module.graph, program.graph_signature
    graph.eliminate_dead_code()
    unused = {node.name: node for node in graph.nodes if node.op == "placeholder" and not node.users}
    kept: list[Any] = []
    dropped: list[Any] = []
    for spec in signature.input_specs:
        free = spec.kind is not InputKind.USER_INPUT and spec.arg.name in unused
        (dropped if free else kept).append(spec)
        if free:
            graph.erase_node(unused[spec.arg.name])
    signature.input_specs[:] = kept
    targets = {spec.target for spec in kept}
    for spec in dropped:
        if spec.target not in targets:
            program.state_dict.pop(spec.target, None)
            program.constants.pop(spec.target, None)
    program.graph_module.recompile()


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without the warnings that torch gives about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
