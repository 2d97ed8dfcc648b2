"""What a user calls: `attach`, `of`, and the handle with its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graftwork.attach import attach_to, handle_of
from graftwork.attach.changes import one_at_a_time
from graftwork.attach.lorahub import LoraHub, lorahub
from graftwork.attach.pruning import Pruned, prune
from graftwork.checkpoint import LoadOptions, load, load_base, save, save_base, unload_base
from graftwork.checkpoint.adapterhub import is_adapterhub_folder, load_adapterhub, save_adapterhub
from graftwork.checkpoint.peft_files import is_peft_folder, load_peft, save_peft
from graftwork.compose import Composition
from graftwork.errors import ConfigError
from graftwork.export import Exporting
from graftwork.sites import Site, SiteMap


class Adapters(Exporting):
    """All adapters of one model: added, activated, trained, composed, saved and loaded here.

    Made by `graftwork.attach`. `graftwork.attach.handle.Handle` has the methods that need no files, and
    `graftwork.export.Exporting` writes programs.

    Example:
        >>> gw.of(model) is adapters
        True
        >>> adapters.names
        ('a', 'b')
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
            name: A name for a new fusion, which gets a copy of the weights and of the head, and can be saved by itself. By
                default the smaller pool shares the weights of the old name.
            active: The composition that is active for the measurement, with the whole fusion in it; by default the fusion.

        Returns:
            The smaller fusion, which can be activated, and the attention; printable.

        Raises:
            UnknownNameError: If there is no such fusion.
            NameTakenError: If the new name is taken.
            CompositionError: If ``keep`` is more than there are, or no batch reached the fusion.

        Example:
            >>> adapters.add_fusion(gw.Fuse("a", "b", name="ab"))
            >>> adapters.prune_fusion("ab", [batch], keep=1).kept  # doctest: +ELLIPSIS
            (...,)
        """
        return prune(self, fusion, batches, keep, name, active)

    def lorahub(
        self,
        name: str,
        of: Sequence[str],
        loss: Callable[[], Any],
        *,
        steps: int = 40,
        bound: float = 1.5,
        penalty: float = 0.05,
        head_from: str | None = None,
    ) -> LoraHub:
        """Add a weighted sum of LoRAs whose weights are found on a few rows, without gradients (LoraHub, arXiv:2307.13269).

        Args:
            name: A name that is free.
            of: The LoRAs, of one configuration.
            loss: Computes the loss of a few rows with what is active, a number or a scalar tensor; called without gradients, in
                evaluation mode, with the new adapter active.
            steps: How often it is called, at most.
            bound: The largest magnitude of a weight.
            penalty: The factor of the mean magnitude of the weights, which is added to the loss.
            head_from: The adapter whose head is copied; by default as in `merge`.

        Returns:
            The weights, the loss and the number of evaluations; printable.

        Raises:
            ConfigError: If one of them is no LoRA, an option is refused, or no loss was finite; nothing is added then.
            UnknownNameError: If there is no adapter of a name.
            NameTakenError: If the new name is taken.

        Example:
            >>> for one in ("x", "y"):
            ...     adapters.add(one, gw.LoRA(targets=["query"]))
            >>> adapters.lorahub("few", ["x", "y"], lambda: model(**batch).logits.square().mean(), steps=5).evaluations
            5
        """
        return lorahub(self, name, of, loss, steps=steps, bound=bound, penalty=penalty, head_from=head_from)

    @one_at_a_time
    def save(self, what: Composition, folder: str | Path, *, members: bool = False, format: str = "graftwork") -> Path:
        """Write an adapter, a fusion, or a whole composition to a folder of its own, with their heads.

        The folder is written under another name and then renamed: a crash leaves the old one or the new one, never a mixture.

        Args:
            what: An adapter's or a fusion's name, a `Fuse` (its weights alone, without its pool), or another block (the
                composition with everything in it).
            folder: The folder; created, or replaced where it holds the same adapter, fusion or composition already.
            members: Write a fusion together with its pool, as a composition.
            format: ``"graftwork"``, or ``"peft"`` for an adapter that peft has too (LoRA, and what peft's modules compute):
                peft, and every server of LoRAs, reads that. ``"adapterhub"`` writes what the library of AdapterHub has too, for
                its version 1.3.0: bottlenecks, LoRA, DoRA, (IA)³, prefixes, fusions; with a block all parts of a composition.

        Returns:
            The folder.

        Raises:
            UnknownNameError: If an adapter or a fusion is not on the model.
            CheckpointError: If the folder holds something else, or cannot be written.

        Example:
            >>> adapters.save("a", folder / "a")  # doctest: +ELLIPSIS
            PosixPath(...)
        """
        if format == "peft" and isinstance(what, str):
            return save_peft(self, what, Path(folder))
        if format == "adapterhub" and what is not None:
            return save_adapterhub(self, what, Path(folder))
        if format != "graftwork":
            raise ConfigError(
                f"save({what!r}): format is {format!r}; give 'graftwork', 'adapterhub', or 'peft' for one adapter"
            )
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
        """Add what `save`, peft or AdapterHub's library wrote, under its own name or another; all of it, or nothing.

        Adapters and fusions of a composition that are on the model already, the same to the bit, stay as they are.

        Args:
            folder: The folder. Of a folder of peft (``adapter_config.json``) a LoRA becomes a `graftwork.LoRA` where that is
                the same function; else peft's own modules compute it. What AdapterHub's library wrote becomes the method of
                the same function, and is refused where there is none. The base is not checked by its weights then:
                these files do not say what base they were trained on.
            name: Another name for an adapter or a fusion. What comes from peft is called as its folder by default.
            head: ``True`` loads the head in the file and fails where it does not fit, ``False`` leaves it out. By default
                it is loaded into a model of the class that it was trained in, with any number of labels, and left out on
                every other: a base model, which has no head, or a model for another task. An adapter without a head in
                its file gets a copy of the model's own, as with `add`.
            other_base: Load onto other weights than it was trained on, such as another revision of the base; type and
                sizes must still be the same.
            other_members: Load a fusion, or a composition, over other adapters of the same names than it was trained over.

        Returns:
            The name, or the composition where the folder holds one.

        Raises:
            CheckpointError: If it was trained on another base or over other adapters, does not fit, is incomplete or
                damaged; nothing is added then.
            NameTakenError: If the name is taken.
            UnknownNameError: If a fusion's adapters are not on the model.
            ConfigError: If the name cannot be one.

        Example:
            >>> adapters.save("a", folder / "a")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.load(folder / "a", "again")
            'again'
        """
        if is_adapterhub_folder(Path(folder)):
            return load_adapterhub(self, Path(folder), name, head=head)
        if is_peft_folder(Path(folder)):
            return load_peft(self, Path(folder), name, head=head)
        return load(self, Path(folder), name, LoadOptions(head, other_base, other_members))

    @one_at_a_time
    def save_base(self, folder: str | Path, *, against: nn.Module | Mapping[str, Tensor] | None = None) -> Path:
        """Write the difference between a trained base and its original, to be shared with the adapters trained with it.

        The folder has the tensors that ``train_only(..., base=...)`` made trainable, each whole, with the statistics of
        norms where the whole base was trained, and a few values of the original, so that it is loaded on no other base.
        The model's own head is written only where it was trained without adapters, by ``train_only(None, base=...)``.

        Args:
            folder: The folder; created, or replaced where it holds such a difference already.
            against: The original, a model or its ``state_dict()``: then every tensor that differs from it is written,
                however it was changed, and no other.

        Returns:
            The folder.

        Raises:
            CheckpointError: If nothing of the base was trained, ``against`` is another model, or the folder holds
                something else.

        Example:
            >>> adapters.train_only("a", base="norms")
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
        """
        return save_base(self, Path(folder), against=against)

    @one_at_a_time
    def load_base(self, folder: str | Path, *, keep: bool = False) -> None:
        """Turn the base into the trained one that `save_base` wrote; all of it, or nothing.

        Values are copied into the model's own tensors, which keep their flags, dtype and device. The result equals the
        trained base to the bit where the model has the dtype that it was trained in, and is rounded otherwise. On the
        trained base itself nothing changes. `detach` does not undo it.

        Args:
            folder: The folder.
            keep: Keep the original values in memory, for `unload_base`.

        Raises:
            CheckpointError: If the base is neither the original of the difference nor the trained one, or a tensor is
                missing, not expected, of another shape or damaged; no tensor is changed then.

        Example:
            >>> adapters.train_only("a", base="norms")
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.load_base(folder / "base")
        """
        load_base(self, Path(folder), keep=keep)

    @one_at_a_time
    def unload_base(self) -> None:
        """Put back the original that ``load_base(..., keep=True)`` kept, the same to the bit.

        Raises:
            CheckpointError: If nothing was kept.

        Example:
            >>> original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            >>> adapters.train_only("a", base="norms")
            >>> model.bert.encoder.layer[0].output.LayerNorm.bias.data += 1  # as training does
            >>> adapters.save_base(folder / "base")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> model.load_state_dict(original)
            <All keys matched successfully>
            >>> adapters.load_base(folder / "base", keep=True)
            >>> adapters.unload_base()
        """
        unload_base(self)


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
