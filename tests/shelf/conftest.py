"""One set of saved adapters for all tests of the shelf, which copy what they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.saved_adapters import make_saved


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_saved(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def saved(made: Path) -> Path:
    return made / "saved"
