"""The settings by which `huggingface_hub` asks a Hub on loopback. Nothing inside it is replaced."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

from tests.support.hub_server import TOKEN, Hub, hub_server


@contextlib.contextmanager
def own_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub whose owner's token is set, and a cache in a folder. The client read its settings from the environment, once."""
    disable_progress_bars()
    with hub_server() as server:
        settings = {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(folder / "cache"),
            "HF_TOKEN_PATH": str(folder / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,  # a storage that needs a service of its own; the other one is git LFS
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        for name in [name for name in os.environ if name.startswith("HF_TOKEN")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
