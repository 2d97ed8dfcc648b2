"""A shelf: the adapters in some folders, listed and searched through an index of what is known of them."""

from __future__ import annotations

import fnmatch
import os
import warnings
from pathlib import Path

from pydantic import ValidationError

from graftwork.attach import Handle
from graftwork.errors import CheckpointError
from graftwork.shelf.fitting import misfit
from graftwork.shelf.index import Index, default_index
from graftwork.shelf.inspecting import damaged, inspect
from graftwork.shelf.records import FolderInfo
from graftwork.shelf.scanning import Found, scan


class Shelf:
    """The adapters, fusions and compositions in some folders, also in those of runs.

    Each call looks at the folders anew. What is known of a folder is kept in an index and read again only when its files change;
    the index can be deleted at any time.

    Args:
        *folders: The folders, searched with all below them.
        index: The file of the index; by default one in the user's folder for caches.

    Raises:
        CheckpointError: If there is no folder, or one is not there.

    Example:
        >>> adapters.save("a", folder / "saved" / "a")  # doctest: +ELLIPSIS
        PosixPath(...)
        >>> shelf = gw.Shelf(folder / "saved", index=folder / "index.sqlite")
        >>> [(found.name, found.method, found.base.model_type) for found in shelf.adapters()]
        [('a', 'pfeiffer', 'bert')]
        >>> [adapters.load(found.folder, "again") for found in shelf.find(base=adapters)]
        ['again']
    """

    def __init__(self, *roots: str | Path, index: str | Path | None = None) -> None:
        if not roots:
            raise CheckpointError("no folder is given; give one or more folders with adapters")
        self.roots = tuple(Path(root) for root in roots)
        for root in self.roots:
            if not root.is_dir():
                raise CheckpointError(f"{root} {'is a file' if root.exists() else 'is not there'}; give a folder")
        self._index = Index(default_index() if index is None else Path(index))

    def folders(self) -> tuple[FolderInfo, ...]:
        """Everything that is found, in the order of paths: also heads, differences of a base, and what is damaged."""
        known = self._index.read(os.path.realpath(root) for root in self.roots)
        records: dict[str, FolderInfo] = {}
        changed: dict[str, tuple[str, str]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files by earlier versions; `load` gives them
            for found in scan(self.roots):
                stamp, text = known.get(found.folder, ("", ""))
                record = _kept(text) if stamp == found.stamp and found.stamp else None
                if record is None:
                    record = _looked_at(found)
                    if found.stamp:
                        changed[found.folder] = found.stamp, record.model_dump_json()
                records[found.folder] = record
        removed = [path for path in known if path not in records]
        if changed or removed:
            self._index.write(changed, removed)
        return tuple(records[path] for path in sorted(records))

    def adapters(self) -> tuple[FolderInfo, ...]:
        """The adapters that nothing is known against; of each, ``folder`` can be given to ``load``."""
        return tuple(found for found in self.folders() if found.kind == "adapter")

    def find(
        self, *, base: str | Handle | None = None, task: str | None = None, method: str | None = None
    ) -> tuple[FolderInfo, ...]:
        """What fits some wishes, of all that is not damaged. Texts may have ``*`` and ``?``, in any case of letters.

        Args:
            base: The name, type or class of the base; or the adapters of a model, on which it has to fit by type and size.
            task: The task that it was trained on, as the run around it says; elsewhere its own name.
            method: The method's or the block's name.
        """
        found = [one for one in self.folders() if one.damage is None]
        if isinstance(base, Handle):
            found = [one for one in found if misfit(one, base) is None]
        elif base is not None:
            found = [one for one in found if _matches(base, one.base.name, one.base.model_type, one.base.model_class)]
        if task is not None:
            found = [one for one in found if _matches(task, one.task or one.name)]
        if method is not None:
            found = [one for one in found if _matches(method, one.method)]
        return tuple(found)


def _kept(text: str) -> FolderInfo | None:
    """The record in an index; ``None`` where it cannot be read, and the folder has to be."""
    try:
        return FolderInfo.model_validate_json(text)
    except ValidationError:
        return None


def _looked_at(found: Found) -> FolderInfo:
    folder = Path(found.folder)
    if found.damage is not None:
        return damaged(folder, found.damage)
    try:
        return inspect(folder)
    except CheckpointError as error:
        return damaged(folder, str(error))


def _matches(wanted: str, *known: str | None) -> bool:
    """Whether a text is one of those known, or the last part of a path or a name on the Hub."""
    texts = {text.casefold() for one in known if one for text in (one, one.rstrip("/").rpartition("/")[2])}
    return any(fnmatch.fnmatchcase(text, wanted.casefold()) for text in texts)
