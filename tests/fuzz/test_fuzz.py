"""Files that were changed at random give the library's own errors, and nothing else; `make fuzz` tries more of them."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.run import fuzz


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_thousand_changed_files() -> None:
    counts, wrong = fuzz(1000, seed=1)
    assert not wrong, "\n".join(wrong)
    assert all(came["refused"] for came in counts.values()), counts
