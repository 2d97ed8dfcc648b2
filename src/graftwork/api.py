"""What a user calls: `attach`, `of`, and the handle with its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graftwork.attach import Handle, attach_to, handle_of
from graftwork.attach.changes import one_at_a_time
from graftwork.attach.pruning import Pruned, prune
from graftwork.checkpoint import load, load_base, save, save_base, unload_base
from graftwork.checkpoint.peft_files import is_peft_folder, load_peft, save_peft
from graftwork.compose import Composition
from graftwork.errors import ConfigError
from graftwork.sites import Site, SiteMap


class Adapters(Handle):
    """All adapters of one model: added, activated, trained, composed, saved and loaded here.

    Made by `graftwork.attach`; see `graftwork.attach.handle.Handle` for everything but files.
    """

    def prune_fusion(
        self,
        fusion: str,
        batches: Iterable[Mapping[str, Any]],
        *,
        keep: int,
        name: str | None = None,
        active: Composition = None,
    ) -> Pruned:
        """Prune a trained fusion to the adapters that it attends to most (Rücklé et al. 2021, arXiv:2010.11918).

        Args:
            fusion: The fusion's name.
            batches: Inputs of the model, by name; the attention to each adapter is the mean over them, over unpadded
                positions and over sites.
            keep: How many of the pool are kept.
            name: A name for a new fusion, which gets a copy of the weights and of the head, and can be saved apart. By
                default the smaller pool shares the weights of the old name.
            active: What is active while it is measured, with the whole fusion in it; by default the fusion alone.

        Returns:
            The smaller fusion, to be made active, and the attention; printable.

        Raises:
            UnknownNameError: If there is no such fusion.
            NameTakenError: If the new name is taken.
            CompositionError: If ``keep`` is more than there are, or the fusion took part in no batch.

        Example:
            >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
            >>> adapters.prune_fusion("ab", [batch], keep=1).kept  # doctest: +ELLIPSIS
            (...,)
        """
        return prune(self, fusion, batches, keep, name, active)

    @one_at_a_time
    def save(self, what: Composition, folder: str | Path, *, members: bool = False, format: str = "graftwork") -> Path:
        """Write an adapter, a fusion, or a whole composition to a folder of its own, with their heads.

        The folder is written aside and renamed: a crash leaves the old one or the new one, never a mixture.

        Args:
            what: An adapter's or a fusion's name, a `Fuse` (its weights alone, not its pool), or another block (the
                composition with everything in it).
            folder: The folder; made, or replaced where it holds the same thing already.
            members: Write a fusion together with its pool, as a composition.
            format: ``"graftwork"``, or ``"peft"`` for an adapter that peft has too (LoRA, and what peft's modules compute):
                peft, and every server of LoRAs, reads that.

        Returns:
            The folder.

        Raises:
            UnknownNameError: If something is not there.
            CheckpointError: If the folder holds something else.

        Example:
            >>> adapters.save("a", folder / "a")  # doctest: +ELLIPSIS
            PosixPath(...)
        """
        if format == "peft" and isinstance(what, str):
            return save_peft(self, what, Path(folder))
        if format != "graftwork":
            raise ConfigError(f"save({what!r}): format is {format!r}; give 'graftwork', or 'peft' for one adapter")
        return save(self, what, Path(folder), members=members)

    @one_at_a_time
    def load(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        head: bool | None = None,
        other_base: bool = False,
        other_members: bool = False,
    ) -> Composition:
        """Read what `save` or peft wrote, under its own name or another; all of it, or nothing.

        Adapters and fusions of a composition that are on the model already, bit for bit the same, are left as they are.

        Args:
            folder: The folder. Of a folder of peft (``adapter_config.json``) a LoRA becomes a `graftwork.LoRA` where that is
                the same function; else peft's own modules compute it. Its weights are not checked against the base's:
                peft's files do not say what base they were trained on.
            name: Another name for an adapter or a fusion. What comes from peft is called as its folder by default.
            head: ``True`` takes the head in the file and fails where it does not fit, ``False`` leaves it aside. By
                default it is taken by a model of the class that it was trained in, with however many labels, and left
                aside by every other: by a base model, which has none, and by a model for another task. What comes
                without a head to a model that has one gets a copy of the model's own, as with `add`.
            other_base: Load onto other weights than it was trained on, another revision of the base say; type and
                sizes must be the same all the same.
            other_members: Load a fusion, or a composition, over other adapters than it was trained over, which have their
                names.

        Returns:
            The name, or the composition where the folder holds one.

        Raises:
            CheckpointError: If it was trained on another base or over other adapters, does not fit, lacks something or is
                damaged; nothing is added then.
            NameTakenError: If the name is taken.
            UnknownNameError: If a fusion's adapters are not there.
            ConfigError: If the name cannot be one.

        Example:
            >>> adapters.save("a", folder / "a")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.load(folder / "a", "again")
            'again'
        """
        if is_peft_folder(Path(folder)):
            return load_peft(self, Path(folder), name, head=head)
        return load(self, Path(folder), name, head=head, other_base=other_base, other_members=other_members)

    @one_at_a_time
    def save_base(self, folder: str | Path, *, against: nn.Module | Mapping[str, Tensor] | None = None) -> Path:
        """Write what a trained base differs in from its original, to be shared with the adapters that learned with it.

        Kept whole are the tensors that `train_only(..., base=...)` let learn, with the statistics of norms where the base
        was trained whole, and a few values of the original, so that it is put on no other base. The model's own head is
        kept only where it learned by itself, in ``train_only(None, base=...)``. Written aside and renamed, as `save` does.

        Args:
            folder: The folder; made, or replaced where it holds such a difference already.
            against: The original, a model or its ``state_dict()``: then only tensors that differ from it in a bit are
                kept, whoever changed them.

        Returns:
            The folder.

        Raises:
            CheckpointError: If nothing of the base was trained, ``against`` is another model, or the folder holds
                something else.
        """
        return save_base(self, Path(folder), against=against)

    @one_at_a_time
    def load_base(self, folder: str | Path, *, keep: bool = False) -> None:
        """Make the base the trained one that `save_base` wrote; all of it, or nothing.

        Tensors keep their identity, flags, dtype and device: the result is the trained base bit for bit where the model
        has the dtype that it was trained in, and is rounded to the model's otherwise. On a base that is the trained one
        already nothing changes. `detach` does not undo it.

        Args:
            folder: The folder.
            keep: Keep the original of what is written over, in memory, for `unload_base`.

        Raises:
            CheckpointError: If the base is neither the original of the difference nor the trained one, or a tensor is
                missing, not expected, of another shape or damaged; no tensor is changed then.
        """
        load_base(self, Path(folder), keep=keep)

    @one_at_a_time
    def unload_base(self) -> None:
        """Put back what ``load_base(..., keep=True)`` wrote over, bit for bit.

        Raises:
            CheckpointError: If nothing was kept.
        """
        unload_base(self)


def attach(
    model: nn.Module,
    *,
    example_inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    sites: SiteMap | Iterable[Site] | None = None,
    heads: Sequence[str] | None = None,
) -> Adapters:
    """Find where adapters can stand in a model, freeze it, and give the handle; twice gives the same one.

    Args:
        model: Any module; its classes, methods and forward stay as they are.
        example_inputs: Keyword (or positional) arguments for one small forward pass, where they cannot be made up.
        sites: The sites, where they are known already or cannot be found; ``()`` for none, where a method makes norms
            and stands at no site.
        heads: The paths of the modules that are the model's head, of which each adapter owns a copy, where they cannot be
            told: in a module of your own around a base. ``()`` says that there is none. By default what an AutoModelForX
            has beyond its base model.

    Raises:
        AttachError: If the model is compiled or wrapped for parallel training.
        SiteError: If no sites are found; the message shows how to give them by hand.
    """
    return attach_to(model, Adapters, example_inputs, sites, heads)


def of(model: nn.Module) -> Adapters:
    """The handle of a model that is attached, copied or unpickled.

    Raises:
        AttachError: If nothing is attached.
    """
    handle = handle_of(model)
    assert isinstance(handle, Adapters)
    return handle
