"""What a user calls: `attach`, `of`, and the handle with its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graftwork.attach import Handle, attach_to, handle_of
from graftwork.checkpoint import load, save
from graftwork.compose import Composition
from graftwork.sites import Site, SiteMap


class Adapters(Handle):
    """All adapters of one model: added, activated, trained, composed, saved and loaded here.

    Made by `graftwork.attach`; see `graftwork.attach.handle.Handle` for everything but files.
    """

    def save(self, what: Composition, folder: str | Path) -> Path:
        """Write an adapter, a fusion, or a whole composition to a folder of its own.

        Args:
            what: An adapter's or a fusion's name, a `Fuse` (its weights alone, not its pool), or another block (the
                composition with everything in it).
            folder: The folder; made, or replaced where it holds the same kind of thing.

        Returns:
            The folder.

        Raises:
            UnknownNameError: If something is not there.
            CheckpointError: If the folder holds something else.
        """
        return save(self, what, Path(folder))

    def load(self, folder: str | Path, name: str | None = None) -> Composition:
        """Read what `save` wrote, under its own name or another.

        Returns:
            The name, or the composition where the folder holds one.

        Raises:
            CheckpointError: If it was trained on another base, does not fit, lacks something or is damaged; nothing is
                added then.
            UnknownNameError: If the name is taken, or a fusion's adapters are not there.
        """
        return load(self, Path(folder), name)


def attach(
    model: nn.Module,
    *,
    example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    sites: SiteMap | Iterable[Site] | None = None,
) -> Adapters:
    """Find where adapters can stand in a model, freeze it, and give the handle; twice gives the same one.

    Args:
        model: Any module; its classes, methods and forward stay as they are.
        example_inputs: Keyword (or positional) arguments for one small forward pass, where they cannot be made up.
        sites: The sites, where they are known already or cannot be found.

    Raises:
        AttachError: If the model is compiled or wrapped for parallel training.
        SiteError: If no sites are found; the message shows how to give them by hand.
    """
    return attach_to(model, Adapters, example_inputs, sites)


def of(model: nn.Module) -> Adapters:
    """The handle of a model that is attached, copied or unpickled.

    Raises:
        AttachError: If nothing is attached.
    """
    handle = handle_of(model)
    assert isinstance(handle, Adapters)
    return handle
