"""Migrating: our side of every row runs, and peft's side beside it. The side of `adapters` is in tests/interop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import graftwork as gw
from tests.support.migration_tables import Row, both_sides, rows, small_bert, trained

LORA = peft.LoraConfig(r=4, target_modules=["query", "value"])


def test_the_tables_are_read_whole() -> None:
    found = {page: [len(part) for part in rows(page)] for page in ("from-adapters", "from-peft")}
    assert found == {"from-adapters": [28, 12], "from-peft": [15, 5]}


def test_ours_of_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, ours = both_sides(peft=peft)
    calls, configs = rows("from-adapters")
    for row in calls:
        exec(row.ours, ours)
    for row in configs:
        gw.attach(small_bert()).add("x", eval(row.ours, ours))


def test_both_sides_of_peft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    theirs, ours = both_sides(peft=peft, lora=LORA)
    for row in rows("from-peft")[0]:
        exec(row.theirs, theirs)
        exec(row.ours, ours)
        if row.about in ("add the first", "activate"):
            assert trained(theirs["model"]) == trained(ours["model"]) > 0, row
    adapters = gw.attach(ours["model"])
    adapters.load("theirs/mrpc")
    with torch.no_grad():
        model = peft.PeftModel.from_pretrained(theirs["model"], "theirs/mrpc").eval()
        torch.testing.assert_close(_logits(ours["model"], adapters, ours["batch"]), model(**ours["batch"]).logits)


def _logits(model: Any, adapters: gw.Adapters, batch: Any) -> torch.Tensor:
    with adapters.using("mrpc"):
        return model.eval()(**batch).logits


@pytest.mark.parametrize("row", rows("from-peft")[1], ids=lambda row: row.theirs.partition("(")[0])
def test_configurations_of_peft_have_as_many_weights(row: Row) -> None:
    theirs, ours = both_sides(peft=peft)
    wrapped = peft.get_peft_model(theirs["model"], eval(row.theirs, theirs))
    adapters = gw.attach(ours["model"])
    adapters.add("x", eval(row.ours, ours))
    adapters.train_only("x")
    assert trained(wrapped) == trained(ours["model"]) > 0
