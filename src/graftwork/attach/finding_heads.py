"""Which modules of a model are the head of a task, and what may be one and cannot be told.

The head of a model of transformers is what its class has beyond the base: beside ``base_model``, or, where a model is its
own base model (a CLIPForImageClassification, a T5ForQuestionAnswering), after the last of its towers, which are models
themselves or parts of the headless class. Around a model of transformers there may be a wrapper: peft's, a CrossEncoder.
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
        unclear: Modules and parameters that may be a head too: nobody learns them, and all adapters share them.
    """

    model: str
    paths: tuple[str, ...]
    unclear: tuple[str, ...]


def find_heads(model: nn.Module, sites: Iterable[Site] = (), given: Sequence[str] | None = None) -> Found:
    """Find the head of a model.

    Args:
        model: The model, or a wrapper with one inside.
        sites: The sites of the model.
        given: The head's modules, where somebody has said which they are.

    Raises:
        AttachError: If what is given is no module with weights.
    """
    if isinstance(model, ModelWithHeads):
        return Found("", (), ())
    path, inner = task_model(model)
    models = _of_transformers(model)
    if given is not None:
        _check(model, given)
        return Found(path, tuple(given), ())
    # what holds the sites: lists of blocks, or the modules that are written
    towers = list(dict.fromkeys(site.stack or site.block or site.output.module for site in sites))
    start = f"{path}." if path else ""
    paths: tuple[str, ...] = ()
    unclear: list[str] = []
    if len(models) == 1:
        inside = [tower.removeprefix(start) for tower in towers if tower.startswith(start)]
        paths = tuple(start + name for name in _beyond_the_base(inner, inside))
        unclear = [start + name for name in _missed(inner, bool(paths))]
    elif _base_of(model) is not None:
        paths = tuple(_beside(model))
    if not (paths or models == [""]):
        unclear += _after_all(model, models or towers)
    return Found(path, paths, tuple(unclear))


def task_model(model: nn.Module) -> tuple[str, nn.Module]:
    """The model of transformers in a wrapper, and its path in it; ``""`` and the model itself where there is no other."""
    models = _of_transformers(model)
    path = models[0] if len(models) == 1 and not isinstance(model, ModelWithHeads) else ""
    return path, model.get_submodule(path)


def output_embeddings(model: nn.Module) -> nn.Module | None:
    """The layer over the vocabulary, ``None`` where there is none."""
    getter = getattr(model, "get_output_embeddings", None)
    try:
        found = None if getter is None else getter()
    except NotImplementedError:
        return None
    return found if isinstance(found, nn.Module) else None


def _of_transformers(model: nn.Module) -> list[str]:
    """The paths of the outermost models of transformers."""
    library = sys.modules.get("transformers.modeling_utils")  # not imported: nothing is of it
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
    """The base model inside a model, ``None`` where it is its own."""
    base = getattr(model, "base_model", None)
    return base if isinstance(base, nn.Module) and base is not model else None


def _beyond_the_base(model: Any, towers: Collection[str]) -> list[str]:
    """The modules of a model of transformers that are its head."""
    if _base_of(model) is not None:
        return _beside(model)
    if not _computes_a_loss(model):
        return []
    known = _headless_children(model)
    children = dict(model.named_children())
    before = {name for name, child in children.items() if name in known or _of_transformers(child) == [""]}
    return _after(model, before | {tower.partition(".")[0] for tower in towers})


def _beside(model: nn.Module) -> list[str]:
    """The children with weights beside the base model that are not the output embeddings."""
    base, output = _base_of(model), output_embeddings(model)
    return [
        _active(model, name)
        for name, child in model.named_children()
        if name != RESERVED and child is not output and base not in set(child.modules()) and _has_weights(child)
    ]


def _active(model: nn.Module, name: str) -> str:
    """The path of a child, or of the copy of it that peft has put in its place."""
    child = model.get_submodule(name)
    copies, active = getattr(child, "modules_to_save", None), getattr(child, "active_adapters", None)
    if isinstance(copies, nn.ModuleDict) and active and active[0] in copies:
        return f"{name}.modules_to_save.{active[0]}"
    return name


def _computes_a_loss(model: Any) -> bool:
    """Whether a model has a task that is not the next word: its forward takes labels, and it writes no text."""
    from transformers.utils.generic import find_labels  # the model is of it: it is imported already

    return bool(find_labels(type(model))) and not model.can_generate() and type(model) not in _headless(model)


def _headless(model: Any) -> tuple[type, ...]:
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(model.config)]
    except KeyError:
        return ()
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)  # type: ignore[arg-type]  # none of them is None


def _headless_children(model: Any) -> frozenset[str]:
    """The children of the class of the same configuration that has no head."""
    for headless in _headless(model)[:1]:
        with torch.device("meta"):
            return frozenset(name for name, _ in headless(model.config).named_children())
    return frozenset()


def _after(model: nn.Module, towers: Collection[str]) -> list[str]:
    """The children with weights after the last tower; none that is made of norms alone or ends in a vocabulary."""
    names = [name for name, _ in model.named_children()]
    last = max((names.index(name) for name in towers if name in names), default=len(names))
    sizes = {m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)}
    later = [name for name in names[last + 1 :] if name != RESERVED and name not in towers]
    return [_active(model, name) for name in later if _is_head_like(model.get_submodule(name), sizes)]


def _is_head_like(module: nn.Module, vocabularies: Collection[int]) -> bool:
    weighted = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False)) or is_quantised_linear(m)]
    words = any(isinstance(m, nn.Linear) and m.out_features in vocabularies for m in weighted)
    return not words and not all(is_norm(m) for m in weighted)


def _missed(model: nn.Module, has_head: bool) -> list[str]:
    """What a model for a task has of a head that cannot be copied: parameters of its own, or all of it inside the base."""
    if not _computes_a_loss(model):
        return []
    own = [name for name, p in model._parameters.items() if p is not None]
    if has_head or own or output_embeddings(model) is not None:
        return own
    return [getattr(model, "base_model_prefix", "")] if _base_of(model) is not None else []


def _after_all(model: nn.Module, towers: Sequence[str]) -> list[str]:
    """The modules of a wrapper after what it is around, at every level."""
    parents = dict.fromkeys(parent for tower in towers for parent in _above(tower))
    found: list[str] = []
    for parent in parents:
        start = f"{parent}." if parent else ""
        inside = {tower.removeprefix(start).partition(".")[0] for tower in towers if tower.startswith(start)}
        found += [start + name for name in _after(model.get_submodule(parent), inside)]
    return found


def _above(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:n]) for n in reversed(range(len(parts)))] if path else []


def _has_weights(module: nn.Module) -> bool:
    """Whether it has weights, packed ones too, which are no parameters."""
    return any(True for _ in module.parameters()) or any(is_quantised_linear(m) for m in module.modules())


def _check(model: nn.Module, given: Sequence[str]) -> None:
    for path in [given] if isinstance(given, str) else given:
        try:
            module = model.get_submodule(path) if path else None
        except AttributeError:
            module = None
        if module is None or isinstance(given, str) or not _has_weights(module):
            raise AttachError(
                f"heads is {given!r}: give the paths of modules with weights in this {type(model).__name__}, such as "
                '("classifier",); () says that there is none'
            )
