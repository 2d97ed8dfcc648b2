"""What every test starts from: one thread, no network, seeds that no other test sees."""

# ruff: noqa: E402  # the environment has to stand before the imports that read it
from __future__ import annotations

import os
from collections.abc import Callable, Iterator

# Before anything imports transformers or a hub client, which read these once.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
os.environ.update({name: os.environ.get(name, "1") for name in _OFFLINE})
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
import torch

from tests.architectures.summary import pytest_collection_modifyitems, pytest_terminal_summary

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary"]

torch.set_num_threads(1)

# The same examples in every run and on every machine: a red test is red for everybody. HYPOTHESIS_PROFILE=search looks
# for new ones.
_quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=30, database=None, suppress_health_check=_quiet
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=300, suppress_health_check=_quiet)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(autouse=True)
def _random_state_of_its_own() -> Iterator[None]:
    """Every test draws from the same start, and leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def generator() -> Callable[[int], torch.Generator]:
    """A random generator for a seed, apart from the global one."""
    return lambda seed: torch.Generator().manual_seed(seed)
