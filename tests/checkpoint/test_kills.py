"""A save that is killed leaves the old folder or the new one, the next takes away what it left; and readers meet no half.

``python -m tests.checkpoint.kills --count 200`` for more of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import graftwork as gw
from graftwork.checkpoint.reading import read
from tests.checkpoint.common import added, attached
from tests.checkpoint.kills import CASES, killed, saving

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.mark.parametrize("case", CASES)
def test_a_save_that_is_killed_leaves_the_old_folder_or_the_new_one(case: str, tmp_path: Path) -> None:
    outcome = killed(CASES[case], 6, tmp_path)
    assert outcome.kills == 6 and not outcome.broken, outcome.broken


def test_readers(tmp_path: Path) -> None:
    _, adapters = attached()
    added(adapters, a=gw.Pfeiffer(), b=gw.Pfeiffer())
    folder, stack = tmp_path / "w", gw.Stack("a", "b")
    adapters.save(stack, folder)
    with saving(lambda value: adapters.save(stack, folder)):
        for _ in range(300):
            found = read(folder)
            assert isinstance(found, tuple)
            assert len(found[1]) == 2
