"""From what a user calls a folder to a folder: it is there, or is downloaded into the cache of `huggingface_hub`."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from torch import nn

from graftwork.checkpoint.folders import is_there
from graftwork.errors import CheckpointError, ConfigError, HubError
from graftwork.hub.client import OfflineError, UnreachableError, asking, is_id, listing
from graftwork.hub.formats import MARKERS, needed, require_small

_TRIES = 3
_ALWAYS = 2**31  # bytes that are downloaded for a model of any size


class Located(NamedTuple):
    """A folder with an adapter.

    Attributes:
        folder: The folder.
        name: The name of the repository, or of the folder inside it; ``None`` for a folder that was given.
    """

    folder: Path
    name: str | None


def located(where: str | Path, revision: str | None, subfolder: str | None, model: nn.Module) -> Located:
    """Return the folder that a path names, or one in the cache with the files of a repository of the Hub.

    Args:
        where: A folder, or the id of a repository (``"org/name"``). Of a text that can be both the folder is taken.
        revision: A branch, a tag or a commit of a repository.
        subfolder: The folder inside a repository.
        model: The model that it is for; no adapter has more bytes than it, and 2 GiB are downloaded in any case.

    Raises:
        CheckpointError: If it is neither a folder nor an id.
        ConfigError: If ``revision`` or ``subfolder`` is given with a folder, or leads elsewhere.
        HubError: If the repository cannot be read, or holds nothing that can.
    """
    if isinstance(where, Path) or not is_id(where) or is_there(Path(where)):
        for option, value in (("revision", revision), ("subfolder", subfolder)):
            if value is not None:
                raise ConfigError(
                    f"load({str(where)!r}): {option} is {value!r}, which is for a repository of the Hub alone"
                )
        if isinstance(where, str) and not is_there(Path(where)):
            raise CheckpointError(
                f"{where!r} is no folder that is there, and cannot be the id of a repository of the Hub ('org/name'); correct it"
            )
        return Located(Path(where), None)
    inside = None if subfolder is None else _inside(subfolder)
    largest = max(_ALWAYS, sum(p.numel() * p.element_size() for p in model.parameters()))
    name = where.rpartition("/")[2] if inside is None else PurePosixPath(inside).name
    return Located(_downloaded(where, revision, inside, largest), name)


def _downloaded(repository: str, revision: str | None, inside: str | None, largest: int) -> Path:
    """The folder in the cache; what was downloaded before where the Hub gives no answer."""
    what = f"load({repository!r}), which is no folder here"
    try:
        with asking(repository, what):
            return _fetched(repository, revision, inside, largest, what)
    except UnreachableError as error:
        found = _cached(repository, revision, inside)
        if found is None:
            raise HubError(f"{error}, and what it asks for was not downloaded before") from error
        if not isinstance(error, OfflineError):
            warnings.warn(f"{error}; what was downloaded before is used", stacklevel=4)
        return found


def _fetched(repository: str, revision: str | None, inside: str | None, largest: int, what: str) -> Path:
    api, start = HfApi(), "" if inside is None else f"{inside}/"
    where = repository if inside is None else f"{repository}, folder {inside}"
    for _ in range(_TRIES):
        commit = api.model_info(repository, revision=revision).sha
        assert commit is not None
        sizes = listing(api, repository, commit, inside)
        *others, marker = needed(sizes, where)
        require_small({path: sizes[path] for path in (*others, marker)}, where, largest)
        for path in others:
            hf_hub_download(repository, start + path, revision=commit)
        # The last, and by the name of the branch, so that the cache knows the branch only when all files are there.
        last = Path(hf_hub_download(repository, start + marker, revision=revision))
        if commit in last.parts:
            return last.parent
    raise HubError(f"{what}: {repository} is changed all the time while it is downloaded; give a commit as revision")


def _cached(repository: str, revision: str | None, inside: str | None) -> Path | None:
    """The folder that was downloaded before, if there is one."""
    for marker in MARKERS:
        path = f"{inside}/{marker}" if inside else marker
        found = try_to_load_from_cache(repository, path, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _inside(subfolder: str) -> str:
    parts = PurePosixPath(subfolder).parts
    if not parts or "\\" in subfolder or any(part in ("..", "/") for part in parts):
        raise ConfigError(
            f"subfolder is {subfolder!r}; give the path of a folder inside the repository, such as 'adapters/a'"
        )
    return "/".join(parts)
