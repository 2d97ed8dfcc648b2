"""The settings by which `huggingface_hub` asks a Hub on loopback. Nothing inside it is replaced."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import utils

from tests.support.hub_server import TOKEN, Hub, hub_server


def set_client(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Give the client other settings, which it read from the environment, once, when it was imported."""
    # the versions for transformers 4.57 have copies of some in other modules, and a session that knows whether it is offline
    for module in [module for name, module in list(sys.modules.items()) if name.startswith("huggingface_hub")]:
        for name in settings.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, settings[name])
    close = getattr(utils, "close_session", None) or getattr(utils, "reset_sessions")  # noqa: B009  # of one version each
    close()


@contextlib.contextmanager
def own_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub whose owner's token is set, and a cache in a folder."""
    utils.disable_progress_bars()
    with hub_server() as server:
        set_client(
            monkeypatch,
            ENDPOINT=server.url,
            HUGGINGFACE_CO_URL_TEMPLATE=server.url + "/{repo_id}/resolve/{revision}/{filename}",
            HF_HUB_CACHE=str(folder / "cache"),
            HF_TOKEN_PATH=str(folder / "token"),
            HF_HUB_OFFLINE=False,
            HF_HUB_DISABLE_XET=True,  # a storage that needs a service of its own; the other one is git LFS
        )
        for name in [name for name in os.environ if name.startswith("HF_TOKEN")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        try:
            yield server
        finally:
            set_client(monkeypatch)
