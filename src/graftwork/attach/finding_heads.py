"""Finding the modules of a model that are its head, and those that may be part of one.

The head of a model of transformers is what its class adds to the base: the modules next to ``base_model``; or, where a model is
its own base model (a CLIPForImageClassification, a T5ForQuestionAnswering), those after the last of its towers, which are models
themselves or in the class without a head too. A wrapper may be around the model: peft's, a CrossEncoder.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from graftwork.errors import AttachError
from graftwork.forward.model_with_heads import ModelWithHeads
from graftwork.sites import Site
from graftwork.sites.discovery.ops import is_norm
from graftwork.weights.names import RESERVED
from graftwork.weights.quantised import is_quantised_linear


class Found(NamedTuple):
    """The head of a model.

    Attributes:
        model: The path of the model that it is a part of, inside a wrapper; ``""`` without one.
        paths: The head's modules.
        unclear: Modules and parameters that may be a head too: they stay frozen, and all adapters share them.
    """

    model: str
    paths: tuple[str, ...]
    unclear: tuple[str, ...]


def find_heads(model: nn.Module, sites: Iterable[Site] = (), given: Sequence[str] | None = None) -> Found:
    """The head of a model, or of the model inside a wrapper; ``given`` are the paths that the user says it has."""
    if isinstance(model, ModelWithHeads):
        return Found("", (), ())
    path, inner = task_model(model)
    models = _of_transformers(model)
    if given is not None:
        _check(model, given)
        return Found(path, tuple(given), ())
    # the modules with the sites: lists of blocks, or the modules whose outputs adapters add to
    towers = list(dict.fromkeys(site.stack or site.block or site.output.module for site in sites))
    start = f"{path}." if path else ""
    paths: tuple[str, ...] = ()
    unclear: list[str] = []
    if len(models) == 1:
        inside = [tower.removeprefix(start) for tower in towers if tower.startswith(start)]
        paths = tuple(start + name for name in _head_of(inner, inside))
        unclear = [start + name for name in _missed(inner, bool(paths))]
    elif _base_of(model) is not None:
        paths = tuple(_next_to_base(model))
    if not (paths or models == [""]):
        unclear += _after_all(model, models or towers)
    return Found(path, paths, tuple(unclear))


def task_model(model: nn.Module) -> tuple[str, nn.Module]:
    """The path of the model of transformers in a wrapper, and that model; ``""`` and the model itself without a wrapper."""
    models = _of_transformers(model)
    path = models[0] if len(models) == 1 and not isinstance(model, ModelWithHeads) else ""
    return path, model.get_submodule(path)


def output_embeddings(model: nn.Module) -> nn.Module | None:
    """The output layer over the vocabulary, ``None`` if there is none."""
    getter = getattr(model, "get_output_embeddings", None)
    try:
        found = None if getter is None else getter()
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def _of_transformers(model: nn.Module) -> list[str]:
    """The paths of the outermost models of transformers."""
    library = sys.modules.get("transformers.modeling_utils")  # if it is not imported, no module is one of its models
    if library is None:
        return []
    found: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, library.PreTrainedModel) and not any(path.startswith(f"{other}.") for other in found):
            found.append(path)
            if not path:
                break
    return found


def _base_of(model: nn.Module) -> nn.Module | None:
    """The base model inside a model, ``None`` if it is its own base model."""
    base = getattr(model, "base_model", None)
    return base if isinstance(base, nn.Module) and base is not model else None


def _head_of(model: Any, towers: Collection[str]) -> list[str]:
    """The modules of a model of transformers that are its head."""
    if _base_of(model) is not None:
        return _next_to_base(model)
    if not _computes_a_loss(model):
        return []
    no_head: set[str] = set()
    for headless in _headless(model)[:1]:
        with torch.device("meta"):
            no_head = {name for name, _ in headless(model.config).named_children()}
    no_head |= {name for name, child in model.named_children() if _of_transformers(child) == [""]}
    return _after(model, no_head | {tower.partition(".")[0] for tower in towers})


def _next_to_base(model: nn.Module) -> list[str]:
    """The children with weights, apart from the base model and the output embeddings."""
    base, output = _base_of(model), output_embeddings(model)
    return [
        _active(model, name)
        for name, child in model.named_children()
        if name != RESERVED and child is not output and base not in set(child.modules()) and _has_weights(child)
    ]


def _active(model: nn.Module, name: str) -> str:
    """The path of a child, or of the copy that peft has replaced it with."""
    child = model.get_submodule(name)
    copies, active = getattr(child, "modules_to_save", None), getattr(child, "active_adapters", None)
    if isinstance(copies, nn.ModuleDict) and active and active[0] in copies:
        return f"{name}.modules_to_save.{active[0]}"
    return name


def _computes_a_loss(model: Any) -> bool:
    """Whether a model has a task other than generating text: its forward takes labels, and it cannot generate."""
    from transformers.utils.generic import find_labels  # imported already, since the model is one of transformers

    return bool(find_labels(type(model))) and not model.can_generate() and type(model) not in _headless(model)


def _headless(model: Any) -> tuple[type, ...]:
    """The classes without a head for the same configuration."""
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(model.config)]
    except KeyError:
        return ()
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)  # type: ignore[arg-type]  # none of them is None


def _after(model: nn.Module, towers: Collection[str]) -> list[str]:
    """The children after the last tower that may be a head by their weights."""
    names = [name for name, _ in model.named_children()]
    last = max((names.index(name) for name in towers if name in names), default=len(names))
    sizes = {m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)}
    later = [name for name in names[last + 1 :] if name != RESERVED and name not in towers]
    return [_active(model, name) for name in later if _is_head_like(model.get_submodule(name), sizes)]


def _is_head_like(module: nn.Module, vocabularies: Collection[int]) -> bool:
    """Whether a module has weights, other than norms alone, and no output over a vocabulary."""
    weighted = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False)) or is_quantised_linear(m)]
    words = any(isinstance(m, nn.Linear) and m.out_features in vocabularies for m in weighted)
    return not words and not all(is_norm(m) for m in weighted)


def _missed(model: nn.Module, has_head: bool) -> list[str]:
    """What may be a head of a model and cannot be copied: the model's own parameters, or the base with a head inside."""
    if not _computes_a_loss(model):
        return []
    own = [name for name, p in model._parameters.items() if p is not None]
    if has_head or own or output_embeddings(model) is not None:
        return own
    return [getattr(model, "base_model_prefix", "")] if _base_of(model) is not None else []


def _after_all(model: nn.Module, towers: Sequence[str]) -> list[str]:
    """The modules after the towers at every level, such as those of a wrapper after the model inside."""
    parents: dict[str, None] = {}  # in the order in which they were found
    for path in towers:
        while path:
            path = path.rpartition(".")[0]
            parents[path] = None
    found: list[str] = []
    for parent in parents:
        start = f"{parent}." if parent else ""
        inside = {tower.removeprefix(start).partition(".")[0] for tower in towers if tower.startswith(start)}
        found += [start + name for name in _after(model.get_submodule(parent), inside)]
    return found


def _has_weights(module: nn.Module) -> bool:
    """Whether a module has weights, also packed ones, which are no parameters."""
    return any(True for _ in module.parameters()) or any(is_quantised_linear(m) for m in module.modules())


def _check(model: nn.Module, given: Sequence[str]) -> None:
    """Refuse paths of a head that are not of modules with weights."""
    for path in [given] if isinstance(given, str) else given:
        try:
            module = model.get_submodule(path) if path else None
        except AttributeError:
            module = None
        if module is None or isinstance(given, str) or not _has_weights(module):
            raise AttachError(
                f"heads is {given!r}: give the paths of modules with weights in this {type(model).__name__}, such as "
                '("classifier",); () means that there is none'
            )
