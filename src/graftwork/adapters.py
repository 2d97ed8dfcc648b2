"""The handle that a user has: the adapters of one model, with their files."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.attach.changes import one_at_a_time
from graftwork.attach.lorahub import LoraHub, lorahub
from graftwork.attach.pruning import Pruned, prune
from graftwork.checkpoint import BaseFiles, LoadOptions, format_of, load_folder, save_folder
from graftwork.checkpoint.catalogue import Catalogue
from graftwork.compose import Composition
from graftwork.export import Exporting
from graftwork.hub import Pushed, TrainingFacts, Wishes, located, prepare, send


class Adapters(Exporting, BaseFiles):
    """All adapters of one model: added, activated, trained, composed, saved and loaded here.

    Made by `graftwork.attach`. `graftwork.attach.handle.Handle` has the methods that need no files,
    `graftwork.export.Exporting` the one that writes programs.

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
        return save_folder(self, what, Path(folder), members=members, format=format)

    @one_at_a_time
    def load(
        self,
        folder: str | Path,
        name: str | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        head: bool | None = None,
        other_base: bool = False,
        other_members: bool = False,
    ) -> Composition:
        """Add what `save`, peft or AdapterHub's library wrote, under its own name or another; all of it, or nothing.

        Adapters and fusions of a composition that are on the model already, the same to the bit, stay as they are.

        Args:
            folder: The folder, or the id of a repository of the Hub (``"org/name"``), of which the files of these formats are
                downloaded by `huggingface_hub`: its token, cache and offline mode. What is a folder is read as one. Of a
                folder of peft (``adapter_config.json``) a LoRA becomes a `graftwork.LoRA` where that is
                the same function; else peft's own modules compute it. What AdapterHub's library wrote becomes the method of
                the same function, and is refused where there is none. The base is not checked by its weights then:
                these files do not say what base they were trained on.
            name: Another name for an adapter or a fusion. What comes from peft is called as its folder, or its repository, by
                default.
            revision: A branch, a tag or a commit of a repository; by default its main branch.
            subfolder: The folder inside a repository.
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
            HubError: If a repository is not there, may not be read, holds none of these formats, or is larger than an adapter
                of this model can be.
            NameTakenError: If the name is taken.
            UnknownNameError: If a fusion's adapters are not on the model.
            ConfigError: If the name cannot be one.

        Example:
            >>> adapters.save("a", folder / "a")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.load(folder / "a", "again")
            'again'
        """
        found, called = located(folder, revision, subfolder, self.model)
        if name is None and format_of(found) == "peft":  # its files have no name
            name = called
        return load_folder(self, found, name, LoadOptions(head, other_base, other_members))

    @one_at_a_time
    def catalogue(
        self,
        source: str | Path | Mapping[str, str | Path],
        *,
        max_resident: int = 256,
        max_bytes: int | None = None,
        head: bool | None = None,
        other_base: bool = False,
    ) -> Catalogue:
        """Name the adapters and fusions of many folders in compositions as if they were added: they are loaded on first use.

        Those that were used least recently leave again. What is active, in use by a thread, pinned, in the pool of a fusion that
        is there, or trained since it was loaded does not. A model has one catalogue; another call replaces it.

        Args:
            source: A folder with a folder for each adapter, which is called as its folder; or folders by name.
            max_resident: How many are loaded at a time, at most.
            max_bytes: How many bytes the loaded weights have together, at most, as far as those in use allow.
            head: As with `load`.
            other_base: As with `load`.

        Returns:
            The catalogue: its names, what is loaded, and `Catalogue.pin`.

        Raises:
            CheckpointError: If the folder cannot be read. A folder that is damaged is refused when it is used.
            ConfigError: If a limit is refused.

        Example:
            >>> adapters.save("a", folder / "tasks" / "first")  # doctest: +ELLIPSIS
            PosixPath(...)
            >>> adapters.catalogue(folder / "tasks").names
            ('first',)
            >>> adapters.active = "first"
        """
        options = LoadOptions(head, other_base, other_members=False)
        found = Catalogue(self, source, max_resident=max_resident, max_bytes=max_bytes, options=options)
        self.source = found
        return found

    def push(
        self,
        what: Composition,
        repository: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        message: str | None = None,
        license: str | None = None,
        tags: Sequence[str] = (),
        base_model: str | None = None,
        format: str = "graftwork",
        members: bool = True,
        training: TrainingFacts | None = None,
        replace_card: bool = False,
    ) -> Pushed:
        """Send an adapter, a fusion or a composition to a repository of the Hub, with a card made from facts.

        It is one commit, by `huggingface_hub` with the token that is set there (``hf auth login``, or ``HF_TOKEN``). Files of
        an earlier push that are not needed any more are removed by it; all other files of the repository stay.

        Args:
            what: What `save` takes.
            repository: The id: ``"org/name"``. It is made where it is not there.
            private: Whether a new repository is private; by default as the account or the organization has it. One that is
                there already, and is not so, is refused.
            revision: A branch, which is made where it is not there; by default the main one.
            message: The message of the commit.
            license: The license for the card, as the Hub names it: ``"apache-2.0"``.
            tags: More tags for the card.
            base_model: The id of the base on the Hub, where the model was loaded from a folder.
            format: The format of the files, as in `save`.
            members: Send a fusion together with its pool, so that it can be loaded by itself.
            training: How it was trained and its scores, for the card.
            replace_card: Replace the README.md there also where a person has written or changed it.

        Returns:
            The commit; printable.

        Raises:
            ConfigError: If an option cannot be used.
            CheckpointError: If it cannot be saved; nothing is sent then.
            HubError: If the repository may not be written, or holds something else; nothing is sent then.

        Example:
            >>> adapters.push("a", "org/name", license="apache-2.0")  # doctest: +SKIP
        """
        wishes = Wishes(private, revision, message, license, tuple(tags), base_model, format, members, replace_card)
        with tempfile.TemporaryDirectory() as folder:
            save = functools.partial(self.save, members=members, format=format)
            return send(prepare(self, what, repository, Path(folder) / "adapter", save, wishes, training))
