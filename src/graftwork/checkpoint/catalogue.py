"""Adapters in folders that are loaded when a composition names them; those that were used least recently leave again.

Files are read whole, since a hash of all bytes is checked, and their values are copied: weights that are mapped from a file would
end the process when somebody shortens that file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graftwork.attach import Handle
from graftwork.attach.changes import Lock, changing
from graftwork.checkpoint.folders import identity_of
from graftwork.checkpoint.formats import format_of, load_folder
from graftwork.checkpoint.json_files import MANIFEST
from graftwork.checkpoint.manifest import AdapterManifest, manifest_in
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.staging import LoadOptions
from graftwork.compose import fusions_in, names_in
from graftwork.errors import CheckpointError, CompositionError, ConfigError, UnknownNameError
from graftwork.options import hint
from graftwork.weights.names import parted


@dataclasses.dataclass
class _Resident:
    """An adapter or a fusion that the catalogue loaded.

    Attributes:
        config: Its configuration on the model; another one there means that the user replaced it.
        bytes: The bytes of its weights, with its head.
        weights: Its weights.
        versions: The version of each when it was loaded; ``None`` where one was changed since.
        identity: Which folder it was read from; another one has replaced it where this differs.
    """

    config: object
    bytes: int
    weights: list[Tensor]
    versions: list[int] | None
    identity: tuple[int, int] | None

    @property
    def changed(self) -> bool:
        """Whether a weight was changed since it was loaded: by training, which its file does not have."""
        return self.versions != [weight._version for weight in self.weights]


class Catalogue:
    """The adapters and fusions of some folders, loaded on first use; made by `graftwork.Adapters.catalogue`.

    Attributes:
        max_resident: How many are loaded at a time, at most.
        max_bytes: How many bytes their weights have together, at most; ``None`` for any number.

    Example:
        >>> for name in ("x", "y", "z"):
        ...     adapters.add(name, gw.Pfeiffer())
        ...     adapters.save(name, folder / "tasks" / name)  # doctest: +ELLIPSIS
        ...     adapters.remove(name)
        PosixPath(...)
        PosixPath(...)
        PosixPath(...)
        >>> catalogue = adapters.catalogue(folder / "tasks", max_resident=2)
        >>> with adapters.using(gw.MixedBatch(["x", "y"])):
        ...     catalogue.resident
        ('x', 'y')
        >>> adapters.active = "z"
        >>> catalogue.resident
        ('y', 'z')
    """

    def __init__(
        self,
        handle: Handle,
        source: str | Path | Mapping[str, str | Path],
        *,
        max_resident: int,
        max_bytes: int | None,
        options: LoadOptions,
    ) -> None:
        for option, value in (("max_resident", max_resident), ("max_bytes", max_bytes)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"catalogue({option}={value!r}): give a whole number that is at least 1")
        self.max_resident, self.max_bytes = max_resident, max_bytes
        self._handle, self._source, self._options = handle, source, options
        self._lock = Lock()  # of what follows; the handle's own is never waited for while it is held
        self._named: dict[str, Path] = {}  # by `add`
        self._folders: dict[str, Path] = _folders(source)
        self._resident: dict[str, _Resident] = {}  # least recently used first
        self._pinned: dict[str, None] = {}
        self._start()

    def _start(self) -> None:
        self._plans: weakref.WeakKeyDictionary[Any, tuple[str, ...]] = weakref.WeakKeyDictionary()
        self._held: list[tuple[str, ...]] = []  # the names that a plan is being made of

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, loaded or not."""
        return tuple(self._folders)

    @property
    def resident(self) -> tuple[str, ...]:
        """The names that are loaded, least recently used first."""
        with self._lock:
            return tuple(name for name in self._resident if self._is_ours(name))

    @property
    def resident_bytes(self) -> int:
        """The bytes of the weights that are loaded, heads included."""
        with self._lock:
            return sum(one.bytes for name, one in self._resident.items() if self._is_ours(name))

    def __contains__(self, name: object) -> bool:
        return name in self._folders

    def add(self, name: str, folder: str | Path) -> None:
        """Name one more folder, or another one for a name."""
        self.remove(name)
        self._named[name] = self._folders[name] = Path(folder)

    def remove(self, name: str) -> None:
        """Forget a folder that was added, and unload what is in it; what is in use stays while it is."""
        with changing(self._handle):
            self._named.pop(name, None)
            self._folders.pop(name, None)
            if name in self._resident:
                self._leave([name], 1)

    def pin(self, *names: str) -> None:
        """Load adapters or fusions and keep them, until `unpin`.

        Raises:
            UnknownNameError: If there is no folder of a name.
            CheckpointError: If one cannot be loaded.
        """
        for name in names:
            self._require(name)
        with self._lock:
            self._pinned.update(dict.fromkeys(names))
        try:
            self.bring(names)
        except BaseException:
            self.unpin(*names)
            raise

    def unpin(self, *names: str) -> None:
        """Let pinned adapters or fusions leave again."""
        with self._lock:
            for name in names:
                self._pinned.pop(name, None)

    def refresh(self) -> None:
        """Look at the folders again: new ones get a name, those that are gone lose it, and replaced ones are loaded again.

        What is loaded stays while it is used, as it is.
        """
        folders = {**_folders(self._source), **self._named}
        with changing(self._handle):
            self._folders = folders
            with self._lock:
                known = list(self._resident.items())
            free = [name for name, one in known if one.identity != _identity(folders.get(name))]
            self._leave(free, len(free))

    # -- for the plan of a composition: see `graftwork.attach.planning` -------------------------------------------

    def bring(self, names: Iterable[str]) -> None:
        """Load those of some names that are in a folder and not on the model."""
        with self.holding(names):
            pass

    @contextlib.contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Load what is missing of some names; none of them leaves inside the ``with`` block, which is given them.

        Raises:
            CompositionError: If they are more than can be loaded at a time.
            CheckpointError: If one cannot be loaded.
        """
        wanted = self._closure(names)
        if len(wanted) > self.max_resident:
            raise CompositionError(
                f"{len(wanted)} adapters of the catalogue at once, and max_resident is {self.max_resident}; give a larger one"
            )
        with self._lock:
            self._held.append(wanted)
            for name in wanted:
                if name in self._resident:
                    self._resident[name] = self._resident.pop(name)  # now the most recently used
        try:
            if any(name not in self._handle for name in wanted) or len(self._resident) > self.max_resident:
                with changing(self._handle):
                    self._make_room(0)
                    for name in wanted:
                        if name not in self._handle:
                            self._load(name)
            yield wanted
        finally:
            with self._lock:
                self._held.remove(wanted)

    def note(self, plan: Any, held: tuple[str, ...]) -> None:
        """Note what a plan uses: as long as there is the plan, it does not leave."""
        with self._lock:
            self._plans[plan] = held

    def _closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names that are in a folder, each fusion after those in its pool."""
        found: dict[str, None] = {}
        begun: set[str] = set()  # a pool in a damaged file may name its own fusion

        def visit(name: str) -> None:
            if name not in begun and (name in self or name in self._resident):
                begun.add(name)
                for inner in self._pool(name):
                    visit(inner)
                found[name] = None

        for name in names:
            visit(name if name in self else parted(name)[0])
        return tuple(found)

    def _pool(self, name: str) -> list[str]:
        """The names in the pool of a fusion; empty for an adapter."""
        pool = self._handle.pool_of(name)
        folder = self._folders.get(name)
        if pool is None and folder is not None and name not in self._handle and (folder / MANIFEST).is_file():
            manifest, _ = manifest_in(folder)
            pool = manifest.pool if isinstance(manifest, AdapterManifest) else None
        return [] if pool is None else [*names_in(pool), *(one.name for one in fusions_in(pool)[1:])]

    def _is_ours(self, name: str) -> bool:
        """Whether what the model has by a name is what was loaded here: the user may have replaced it."""
        return name in self._handle and self._handle.config(name) is self._resident[name].config

    def _load(self, name: str) -> None:
        self._make_room(1)
        folder = self._folders[name]
        identity = _identity(folder)
        loaded = load_folder(self._handle, folder, name, self._options)
        if loaded != name:
            raise CheckpointError(f"{folder} holds more than one adapter; a catalogue has folders of one each")
        weights = list(tensors_of(self._handle, name).values())
        one = _Resident(
            self._handle.config(name),
            sum(weight.numel() * weight.element_size() for weight in weights),
            weights,
            [weight._version for weight in weights],
            identity,
        )
        with self._lock:
            self._resident.pop(name, None)
            self._resident[name] = one
        self._make_room(0)

    def _make_room(self, room: int) -> None:
        """Remove what was used least recently, until there is room for some more; what is in use stays."""
        if self.max_bytes is None and len(self._resident) + room <= self.max_resident:
            return
        with self._lock:
            known = [(name, one.bytes) for name, one in self._resident.items()]
        surplus = len(known) + room - self.max_resident
        held = sum(size for _, size in known) if self.max_bytes is not None else 0
        for name, size in known:
            if surplus <= 0 and held <= (self.max_bytes or 0):
                break
            if self._leave([name], 1):
                surplus, held = surplus - 1, held - size

    def _leave(self, names: Collection[str], most: int) -> int:
        """Remove those of some names that nothing uses, up to a number; returns how many there were."""
        handle, removed = self._handle, 0
        pools = [names_in(pool) for name, pool in handle.fusions.items() if name not in names]
        with self._lock:
            in_use = set().union(*self._held, *self._plans.values(), self._pinned, *map(set, pools))
        in_use |= handle.names_in_use | {handle.owner_of(name) for name in (*in_use, *handle.trainable)}
        for name in sorted(names, key=lambda n: n not in handle.fusions):  # a fusion before the adapters in its pool
            with self._lock:
                one = self._resident[name]
                ours = self._is_ours(name)
                if removed == most or (ours and (name in in_use or one.changed)):
                    continue
                del self._resident[name]
            if ours:
                handle.remove(name)
            removed += 1
        return removed

    def _require(self, name: str) -> None:
        if name not in self._folders:
            raise UnknownNameError(f"the catalogue has no {name!r}; {hint(name, self._folders) or 'call refresh()'}")

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if key not in ("_plans", "_held")}
        versions = {name: None if one.changed else one.versions for name, one in self._resident.items()}
        resident = {name: dataclasses.replace(one, versions=versions[name]) for name, one in self._resident.items()}
        return {**kept, "_resident": resident}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()
        for one in self._resident.values():
            if one.versions is not None:  # those of a copy begin anew
                one.versions = [weight._version for weight in one.weights]


def _folders(source: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    """The folders by name: those given, or those inside a folder that hold an adapter or a fusion of any format."""
    if isinstance(source, Mapping):
        return {name: Path(folder) for name, folder in source.items()}
    top = Path(source)
    try:
        inside = sorted(path for path in top.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise CheckpointError(
            f"{top} cannot be read: {error}; give a folder that has a folder for each adapter"
        ) from error
    return {path.name: path for path in inside if _is_adapter(path)}


def _is_adapter(folder: Path) -> bool:
    try:
        return format_of(folder) is not None
    except (CheckpointError, OSError):
        return True  # damaged: its name is known, and using it says what is wrong


def _identity(folder: Path | None) -> tuple[int, int] | None:
    return None if folder is None else identity_of(folder)
