"""Files that were changed at random give the library's own errors, and nothing else; `make fuzz` tries more of them."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.readers import GROUPS
from tests.fuzz.run import fuzz


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("group", GROUPS)
def test_five_hundred_changed_files(group: str) -> None:
    counts, wrong = fuzz(range(500), 1, [group])
    assert not wrong, "\n".join(wrong)
    assert all(came["refused"] for came in counts.values()), counts
