"""What an exported folder says of the model it was made of, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from graftwork.attach import Handle, ModelWithHeads
from graftwork.compose import Composition, composition_to_dict
from graftwork.forward.heads_in_use import Labels, SeveralHeads, heads_in_use


def facts(handle: Handle, composition: Composition, head: Any, outputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The base, the composition, the labels of the heads in use, and the versions.

    Args:
        handle: The model, with the composition active.
        composition: The composition, as it was given.
        head: The head in use, as with `Handle.activate`.
        outputs: The outputs for one batch.
    """
    model = handle.model
    base = model.base if isinstance(model, ModelWithHeads) else model
    config = getattr(base, "config", None)
    return {
        "base": {"class": type(base).__name__, "model_type": getattr(config, "model_type", None)},
        "composition": composition_to_dict(composition),
        "heads": _heads(handle, head, outputs),
        "versions": {"torch": str(torch.__version__), "transformers": version("transformers")},
    }


def _heads(handle: Handle, head: Any, outputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The heads in use: the output of each, its labels in order where its last dimension has them, and what these are."""
    chosen = heads_in_use(handle.active, head, handle.head_labels, handle.head_for)
    if chosen is None:
        known: list[tuple[str | None, Labels]] = [(None, handle.own_labels)] if handle.head_paths else []
    else:
        names = chosen.names if isinstance(chosen, SeveralHeads) else (str(chosen),)
        known = [(name, handle.head_labels[name]) for name in names]
    found = []
    for name, labels in known:
        output = "logits" if len(known) == 1 else f"logits_{name}"
        fits = output in outputs and outputs[output].shape[-1] == len(labels.names)
        found.append(
            {
                "name": name,
                "output": output,
                "labels": list(labels.names) if fits else [],
                "problem_type": labels.problem_type if fits else None,
            }
        )
    return found
