"""What is sent: the files of an adapter or a composition, and their card, in a folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from graftwork.attach import Handle
from graftwork.checkpoint.folders import replace_file
from graftwork.checkpoint.json_files import MANIFEST, read_json
from graftwork.compose import Block, Composition, Learned
from graftwork.errors import ConfigError
from graftwork.hub.card import CARD, card
from graftwork.hub.client import is_id, require_id
from graftwork.hub.facts import TrainingFacts, contents_of

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_MADE_WITH = ("graftwork", "torch", "transformers")
_BASE_KEYS = ("base_model_name_or_path", "model_name")  # in files of peft and of AdapterHub's library


@dataclasses.dataclass(frozen=True)
class Wishes:
    """How something is sent; see `graftwork.Adapters.push`."""

    private: bool | None = None
    revision: str | None = None
    message: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    base_model: str | None = None
    form: str = "graftwork"
    members: bool = True
    replace_card: bool = False

    def __post_init__(self) -> None:
        if self.revision is not None and (not self.revision.strip() or _COMMIT.fullmatch(self.revision)):
            raise ConfigError(f"revision is {self.revision!r}; what is sent goes to a branch: give the name of one")
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise ConfigError(
                f"license is {self.license!r}; give it as the Hub names it, such as 'apache-2.0', 'mit' or 'other'"
            )
        for tag in self.tags:
            if not isinstance(tag, str) or not tag.strip() or not tag.isprintable():
                raise ConfigError(f"a tag is {tag!r}; give words")
        if self.base_model is not None and not is_id(self.base_model) and not is_id(f"x/{self.base_model}"):
            raise ConfigError(
                f"base_model is {self.base_model!r}; give the id of a model of the Hub, such as 'org/name'"
            )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A folder that can be sent.

    Attributes:
        repository: The id of the repository.
        folder: The folder; everything in it is sent.
        wishes: How it is sent.
        title: What it holds, in a few words.
    """

    repository: str
    folder: Path
    wishes: Wishes
    title: str

    @property
    def files(self) -> dict[str, int]:
        """The size in bytes of each file by its path in the folder."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in found}


def prepare(
    handle: Handle,
    what: Composition,
    repository: str,
    folder: Path,
    save: Callable[[Composition, Path], object],
    wishes: Wishes,
    training: TrainingFacts | None = None,
) -> Prepared:
    """Write what is sent, and its card, into a folder; nothing is asked of the Hub.

    Args:
        handle: The handle of the model.
        what: A name, or a block.
        repository: The id of the repository.
        folder: A folder that does not exist yet, or is empty.
        save: Writes a composition, in the format that is wished for.
        wishes: How it is sent.
        training: How it was trained, where that is known.

    Raises:
        ConfigError: If the id is none, or the model is not to be named so.
        CheckpointError: If it cannot be saved in that format.
        UnknownNameError: If there is nothing of a name.
    """
    require_id(repository)
    whole = _whole(handle, what, wishes.members)
    save(whole, folder)
    contents = contents_of(handle, whole, wishes.base_model)
    if not (folder / MANIFEST).is_file():
        _name_base(folder, contents.base)
    text = card(
        repository,
        whole,
        contents,
        training,
        form=wishes.form,
        revision=wishes.revision,
        license=wishes.license,
        tags=wishes.tags,
        versions={name: version(name) for name in _MADE_WITH},
    )
    replace_file(folder / CARD, text.encode("utf-8", "backslashreplace"))
    parts = ", ".join(f"{part.name!r}" for part in contents.parts)
    title = f"{'composition of ' if isinstance(whole, Block) else ''}{parts}"
    return Prepared(repository, folder, wishes, title)


def _whole(handle: Handle, what: Composition, members: bool) -> Composition:
    """What is saved: of a fusion by default the block, which is saved with its pool."""
    if members and isinstance(what, str):
        return handle.fusions.get(what, what)
    return what.name if isinstance(what, Learned) and not members else what


def _name_base(folder: Path, base: str | None) -> None:
    """Put the base's id in place of the path that the model was loaded from, which is nobody else's."""
    for path in folder.rglob("*.json"):
        values = read_json(path)
        named = {key: base for key in _BASE_KEYS if key in values}
        if named:
            replace_file(path, (json.dumps({**values, **named}, indent=2, sort_keys=True) + "\n").encode())
