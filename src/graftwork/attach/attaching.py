"""`attach`: from a plain model to one that carries adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from graftwork.attach.handle import Handle
from graftwork.attach.parallel import refuse_parallel
from graftwork.attach.wiring import attached_part, unwire
from graftwork.errors import AttachError, ConfigError
from graftwork.forward.model_with_heads import HANDLE
from graftwork.sites import Site, SiteMap, discover, norm_paths, projections_by_hand

H = TypeVar("H", bound=Handle)


def attach_to(
    model: nn.Module,
    handle: type[H],
    example_inputs: Mapping[str, Any] | tuple[Any, ...] | None,
    sites: SiteMap | Iterable[Site] | None,
    heads: Sequence[str] | None = None,
) -> H:
    """Attach a handle to a model, or return the one that it has; see `graftwork.attach`."""
    found = model.__dict__.get(HANDLE) if isinstance(model, nn.Module) else None
    if found is not None:
        if sites is not None and SiteMap(sites).to_dict()["sites"] != found.sites.to_dict()["sites"]:
            raise AttachError("the model is attached already, with other sites; detach() it first")
        if heads is not None and tuple(heads) != found.head_paths:
            raise AttachError(
                f"the model is attached already, with the head {list(found.head_paths)}; detach() it first"
            )
        return found  # type: ignore[no-any-return]
    _refuse_unattachable(model)
    unwire(model)  # hooks that a copied part of an attached model still has
    if sites is None:
        sites = discover(model, example_inputs)
    elif not isinstance(sites, SiteMap):
        given, norms = tuple(sites), norm_paths(model)
        if not (given or norms) or not all(isinstance(s, Site) for s in given):
            raise ConfigError(
                f"sites is {given!r}; give a SiteMap, one or more gw.Site(...), or () for methods that make norms only"
            )
        sites = SiteMap(
            given,
            model_class=type(model).__name__,
            prefix=base_prefix(model),
            norms=norms,
            projections=projections_by_hand(model, given),
        )
    return handle(model, sites, heads)


def base_prefix(model: nn.Module) -> str:
    """The path from a model to its base model, with a dot; empty if it is its own base model."""
    prefix = getattr(model, "base_model_prefix", "")
    base = getattr(model, prefix, None) if prefix else None
    return f"{prefix}." if isinstance(base, nn.Module) else ""


def handle_of(model: nn.Module) -> Handle:
    """The handle of an attached model.

    Raises:
        AttachError: If nothing is attached.
    """
    found = getattr(model, "__dict__", {}).get(HANDLE)
    if found is None:
        raise AttachError(f"nothing is attached to this {type(model).__name__}; call graftwork.attach(model)")
    return found  # type: ignore[no-any-return]


def _refuse_unattachable(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise AttachError(f"{type(model).__name__} is no torch.nn.Module; attach to the model itself")
    refuse_parallel(model)
    part = attached_part(model)
    if part is not None:
        where = f"its part {part!r}" if part else "the model around it"
        raise AttachError(
            f"{where} is attached already; use gw.of() on the model that was attached, or detach() it first"
        )
    for path, module in model.named_modules():
        if module._compiled_call_impl is not None or isinstance(module, torch._dynamo.eval_frame.OptimizedModule):
            where = f"its part {path!r}" if path else "the model"
            raise AttachError(f"{where} is compiled already and would ignore the adapters; attach first, then compile")
