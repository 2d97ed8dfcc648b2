"""What a user calls first: `attach` and `of`, which give the handle `Adapters`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from graftwork.adapters import Adapters
from graftwork.attach import attach_to, handle_of
from graftwork.sites import Site, SiteMap

__all__ = ["Adapters", "attach", "of"]


def attach(
    model: nn.Module,
    *,
    example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    sites: SiteMap | Iterable[Site] | None = None,
    heads: Sequence[str] | None = None,
) -> Adapters:
    """Find the sites of a model, where adapters can be added, freeze the model, and return the handle of its adapters.

    Args:
        model: Any module; its classes, methods and forward stay as they are.
        example_inputs: Keyword (or positional) arguments for one small forward pass, where they cannot be made up.
        sites: The sites, where they are known already or cannot be found; ``()`` for none, for a method that makes norms
            and has no site.
        heads: The paths of the modules that are the model's head, of which each adapter owns a copy. Needed where they
            cannot be found: in a module of your own around a base. ``()`` means that there is none. By default what an
            AutoModelForX has in addition to its base model.

    Returns:
        The handle; for a model that is attached already the same one.

    Raises:
        AttachError: If the model is compiled or wrapped for parallel training.
        SiteError: If no sites are found; the message shows how to give them by hand.

    Example:
        >>> layer = torch.nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        >>> encoder = torch.nn.TransformerEncoder(layer, 2)
        >>> gw.attach(encoder, example_inputs=(torch.zeros(1, 4, 32),)).add("c", "pfeiffer")
    """
    return attach_to(model, Adapters, example_inputs, sites, heads)


def of(model: nn.Module) -> Adapters:
    """Return the handle of a model that was attached, also of its copies, and after unpickling.

    Raises:
        AttachError: If nothing is attached.

    Example:
        >>> import copy
        >>> gw.of(copy.deepcopy(model)).names
        ('a', 'b')
    """
    handle = handle_of(model)
    assert isinstance(handle, Adapters)
    return handle
