"""A save that is killed leaves the old folder or the new one, the next takes away what it left; and readers meet no half.

``KILLS=200 pytest tests/checkpoint/test_kills.py`` for more of them.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import graftwork as gw
from graftwork.checkpoint.naming import tensors_of
from graftwork.checkpoint.reading import File, read
from graftwork.checkpoint.tensors import Tensors, equal
from tests.checkpoint.common import added, attached

KILLS = int(os.environ.get("KILLS", "12"))
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(scope="module")
def adapters() -> gw.Adapters:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    return adapters


def weights(adapters: gw.Adapters, folder: Path, values: float) -> Tensors:
    """All weights of an adapter as one value, saved."""
    tensors = tensors_of(adapters, "a")
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.fill_(values)
    adapters.save("a", folder)
    return {name: tensor.clone() for name, tensor in tensors.items()}


@contextmanager
def saving(adapters: gw.Adapters, what: gw.Stack | str, folder: Path) -> Iterator[None]:
    """Another process saves again and again, and is killed at the end."""
    child = os.fork()
    if not child:
        while True:
            for value in (0.0, 1.0):
                with torch.no_grad():
                    for tensor in tensors_of(adapters, "a").values():
                        tensor.fill_(value)
                adapters.save(what, folder)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_kills(adapters: gw.Adapters, tmp_path: Path) -> None:
    folder, draw = tmp_path / "a", random.Random(0)
    known = [weights(adapters, folder, value) for value in (0.0, 1.0)]
    for n in range(KILLS):
        with saving(adapters, "a", folder):
            time.sleep(draw.uniform(0.01, 0.08))
        found = read(folder)
        assert isinstance(found, File)
        assert any(equal(found.tensors, one) for one in known), n
        adapters.save("a", folder)
        assert [path.name for path in tmp_path.iterdir()] == ["a"], n


def test_readers(adapters: gw.Adapters, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    stack = gw.Stack("a", "b")
    adapters.save(stack, folder)
    with saving(adapters, stack, folder):
        for _ in range(25 * KILLS):
            found = read(folder)
            assert isinstance(found, tuple)
            assert len(found[1]) == 2
