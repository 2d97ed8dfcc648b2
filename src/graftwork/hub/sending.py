"""Sending a folder to a repository of the Hub, in one commit: all of it, or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError

from graftwork.checkpoint.json_files import LARGEST, MANIFEST
from graftwork.checkpoint.manifest import manifest_in, title
from graftwork.errors import HubError
from graftwork.hub.card import CARD, is_unchanged
from graftwork.hub.client import asking, listing
from graftwork.hub.formats import files_of_a_format, format_of
from graftwork.hub.preparing import Prepared


@dataclasses.dataclass(frozen=True)
class Pushed:
    """What was sent, printable.

    Attributes:
        repository: The id of the repository.
        url: The page of the commit.
        commit: The commit, which `Adapters.load` takes as ``revision``.
        card_kept: Whether the card that was there stayed, because a person had changed it.
    """

    repository: str
    url: str
    commit: str
    card_kept: bool

    def __str__(self) -> str:
        kept = "; the card there is written by hand and stays (replace_card replaces it)" if self.card_kept else ""
        return f"{self.repository} at {self.commit[:12]}: {self.url}{kept}"


def send(prepared: Prepared) -> Pushed:
    """Send a prepared folder; a repository that is not there is made.

    Raises:
        HubError: If the repository may not be written, is public and should be private, holds something else, or was changed
            meanwhile.
    """
    repository, wishes = prepared.repository, prepared.wishes
    what = f"push to {repository}"
    with asking(repository, what):
        api = HfApi()
        head = _head(api, prepared, what)
        there = listing(api, repository, head)
        _require_same(prepared, there, head, what)
        kept = CARD in there and not wishes.replace_card and not _is_ours(repository, head, there[CARD])
        files = [path for path in prepared.files if not (kept and path == CARD)]
        operations = [CommitOperationAdd(path, str(prepared.folder / path)) for path in files]
        old = files_of_a_format(there, wishes.form) - {*files}
        done = api.create_commit(
            repository,
            [*operations, *(CommitOperationDelete(path) for path in sorted(old) if path in there)],
            commit_message=wishes.message or f"Add {prepared.title} with graftwork {version('graftwork')}",
            revision=wishes.revision,
            parent_commit=head,
        )
    return Pushed(repository, done.commit_url, done.oid, kept)


def _head(api: HfApi, prepared: Prepared, what: str) -> str:
    """The commit that is built on, of a repository and a branch that are made where they are not there."""
    repository, wishes = prepared.repository, prepared.wishes
    try:
        info = api.model_info(repository)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=wishes.private, exist_ok=True)
        info = api.model_info(repository)
    if wishes.private is not None and info.private != wishes.private:
        now, wanted = ("private", "public") if info.private else ("public", "private")
        raise HubError(
            f"{what}: the repository is {now}, and should be {wanted}; nothing was sent. Change that in its settings, or leave "
            "private out"
        )
    if wishes.revision is not None:
        api.create_branch(repository, branch=wishes.revision, exist_ok=True)
        info = api.model_info(repository, revision=wishes.revision)
    assert info.sha is not None
    return info.sha


def _require_same(prepared: Prepared, there: Collection[str], head: str, what: str) -> None:
    """Refuse a repository that holds an adapter of another format, or another adapter."""
    form = format_of([path for path in there if "/" not in path])
    if form is None:
        return
    if form != prepared.wishes.form:
        raise HubError(
            f"{what}: the repository holds an adapter in another format ({form}), and one folder has one; nothing was sent. "
            f"Push to another repository, or with format={form!r}"
        )
    if MANIFEST in there:
        found = Path(hf_hub_download(prepared.repository, MANIFEST, revision=head)).parent
        held, new = (title(manifest_in(folder)[0]) for folder in (found, prepared.folder))
        if held != new:
            raise HubError(
                f"{what}: the repository holds the {held}, not the {new}; nothing was sent. Push to a repository of its own, "
                "or to another branch"
            )


def _is_ours(repository: str, head: str, size: int) -> bool:
    """Whether the card of a repository is one that nobody has changed."""
    if size > LARGEST:
        return False
    path = Path(hf_hub_download(repository, CARD, revision=head))
    return is_unchanged(path.read_text(encoding="utf-8", errors="replace"))
