"""Requests by `huggingface_hub`: its errors in words of ours, and the files of a repository with their sizes."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from graftwork.errors import ConfigError, GraftworkError, HubError

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_ID = re.compile(rf"{_NAME}/{_NAME}")
_NO_ID = re.compile(r"--|\.\.|[-.](/|$)|\.git$")  # the Hub's rules for names
_LONGEST_ID = 96
_MOST_FILES = 10_000
_LONGEST = 300  # characters of what a server says


class UnreachableError(HubError):
    """The Hub gave no answer, or an error of its own; what is in the cache can still be used."""


class OfflineError(UnreachableError):
    """Nothing was asked, because offline mode is on."""


def is_id(text: str) -> bool:
    """Whether a text can be the id of a repository: ``"org/name"``."""
    return _ID.fullmatch(text) is not None and len(text) <= _LONGEST_ID and not _NO_ID.search(text)


def require_id(text: str) -> None:
    """Refuse a text that cannot be the id of a repository.

    Raises:
        ConfigError: If it cannot.
    """
    if not isinstance(text, str) or not is_id(text):
        raise ConfigError(f"{text!r} cannot be the id of a repository of the Hub; give 'org/name', or 'user/name'")


@contextlib.contextmanager
def asking(repository: str, what: str) -> Iterator[None]:
    """Turn the errors of a request into a `HubError`.

    Args:
        repository: The id of the repository.
        what: What is being done, for messages: ``"load('org/name')"``.

    Raises:
        UnreachableError: If there was no answer, or the server failed.
        HubError: If the answer is that it is not there, or may not be read or written.
    """
    try:
        yield
    except GraftworkError:
        raise
    except GatedRepoError as error:
        raise HubError(
            f"{what}: {repository} is gated; ask for access on its page, and log in (`hf auth login`, or HF_TOKEN)"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"{what}: the Hub has no repository {repository} that you may read; if it is private, log in (`hf auth login`, or "
            "set HF_TOKEN), else correct the name"
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(
            f"{what}: {repository} has no such revision; give a branch, a tag or a commit that it has"
        ) from error
    except OfflineModeIsEnabled as error:
        raise OfflineError(f"{what}: offline mode is on (HF_HUB_OFFLINE)") from error
    except LocalEntryNotFoundError as error:  # a file that was not downloaded, because there was no answer
        raise UnreachableError(f"{what}: a file could not be downloaded ({_said(error)})") from error
    except EntryNotFoundError as error:
        raise HubError(f"{what}: {repository} has no such folder or file ({_said(error)})") from error
    except HfHubHTTPError as error:
        raise _refused(error, repository, what) from error
    except Exception as error:  # the client's versions raise the errors of other libraries: requests, httpx
        raise UnreachableError(f"{what}: the request failed ({type(error).__name__}: {_said(error)})") from error


def _refused(error: HfHubHTTPError, repository: str, what: str) -> HubError:
    status = getattr(error.response, "status_code", 0)
    if status in (401, 403):
        return HubError(
            f"{what}: you may not do that in {repository} ({_said(error)}); log in with a token that may (`hf auth login`, or "
            "HF_TOKEN)"
        )
    if status in (409, 412):
        return HubError(f"{what}: {repository} was changed meanwhile, and nothing was sent; push again")
    kind = UnreachableError if status >= 500 or status in (0, 408, 429) else HubError
    return kind(f"{what}: the Hub refused ({_said(error)})")


def listing(api: HfApi, repository: str, commit: str, folder: str | None = None) -> dict[str, int]:
    """The sizes in bytes of all files of a repository, or of a folder in it, by their paths in that.

    Raises:
        HubError: If there are too many.
    """
    tree = api.list_repo_tree(repository, folder, recursive=True, revision=commit)
    entries = list(itertools.islice(tree, _MOST_FILES + 1))
    if len(entries) > _MOST_FILES:
        raise HubError(
            f"{repository} lists more than {_MOST_FILES:,d} files and folders; no adapter has that many, so nothing was "
            "downloaded: say in which folder the adapter is, as subfolder"
        )
    start = "" if folder is None else f"{folder}/"
    return {entry.path.removeprefix(start): entry.size for entry in entries if isinstance(entry, RepoFile)}


def _said(error: Exception) -> str:
    """The message of an error in one printable line."""
    line = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:_LONGEST] or type(error).__name__
