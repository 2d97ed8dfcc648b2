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

from tests.architectures.summary import leave_out_the_tour, pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

# What trains, compiles, starts processes or reads many files: `make test-fast` leaves it out.
_ROOMS = "architectures browser examples experiments fuzz inference report serving training".split()
_FILES = "attach/test_parallel forward/test_compile test_cli_run test_cli_files test_command".split()
_FILES += "docs/test_method_pages docs/test_serving_page docs/test_export_page".split()
_FILES += "docs/test_site docs/test_guides docs/test_migrating docs/test_troubleshooting".split()
_LONG = (*(f"tests/{room}/" for room in _ROOMS), *(f"tests/{file}.py" for file in _FILES))

torch.set_num_threads(1)

# The same examples in every run and on every machine: a red test is red for everybody. HYPOTHESIS_PROFILE=search looks
# for new ones.
_quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=30, database=None, suppress_health_check=_quiet
)
hypothesis.settings.register_profile("search", deadline=None, max_examples=300, suppress_health_check=_quiet)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="the first case of each test, none of those that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for: the tour of all architectures, and with ``--fast`` what takes long."""
    if config.getoption("--fast"):
        chosen: dict[str, pytest.Item] = {}
        for item in items:
            if item.get_closest_marker("slow") is None and not item.nodeid.startswith(_LONG):
                chosen.setdefault(item.nodeid.partition("[")[0], item)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen.values()])
        items[:] = list(chosen.values())
    leave_out_the_tour(config, items)


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
