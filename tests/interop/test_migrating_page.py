"""Migrating from `adapters`: both sides of every row run, and where both train as many weights learn."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

import graftwork as gw
from tests.interop.common import ah
from tests.support.migration_tables import Row, both_sides, rows, trained


def test_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    theirs, ours = both_sides()
    compared = 0
    for row in rows("from-adapters")[0]:
        exec(row.theirs, theirs)
        exec(row.ours, ours)
        if row.about.startswith("train"):
            assert trained(theirs["model"]) == trained(ours["model"]) > 0, row
            compared += 1
    assert compared == 2
    adapters = gw.attach(ours["model"])  # the last row has taken everything off
    adapters.load("theirs")  # what theirs has trained, now ours
    theirs["model"].set_active_adapters("mrpc")
    with torch.no_grad(), adapters.using("mrpc"):
        found = ours["model"].eval()(**ours["batch"]).logits
        torch.testing.assert_close(found, theirs["model"].eval()(**ours["batch"]).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("row", rows("from-adapters")[1], ids=lambda row: row.theirs.partition("(")[0])
def test_methods_have_as_many_weights(row: Row) -> None:
    theirs, ours = both_sides(adapters=ah, peft=peft)
    ah.init(theirs["model"])
    theirs["model"].add_adapter("x", config=eval(row.theirs, theirs))
    theirs["model"].train_adapter("x")
    adapters = gw.attach(ours["model"])
    adapters.add("x", eval(row.ours, ours))
    adapters.train_only("x")
    assert trained(theirs["model"]) == trained(ours["model"]) > 0
