"""The parts of a batch that ranks compute: together they are the batch, and their shares add up to its loss."""

from __future__ import annotations

import pytest
import torch

import graftwork as gw
from graftwork.training.ranks import Ranks, ranks_started

TAGS = gw.heads.TokenClassification(labels=3)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("rows", [1, 4, 7])
def test_parts_are_the_batch_and_shares_are_one(size: int, rows: int) -> None:
    batch = {"labels": torch.arange(rows), "input_ids": torch.arange(2 * rows).view(rows, 2)}
    count = gw.heads.Classification(labels=rows + 1, class_weights=[*range(1, rows + 2)]).counted
    parts = [Ranks(number, size).part(batch, rows, count) for number in range(size)]
    for name, whole in batch.items():
        assert torch.cat([part[name] for part, share in parts if share]).equal(whole)
        assert all(len(part[name]) for part, _ in parts)  # a model cannot compute no rows
    assert sum(share for _, share in parts) == pytest.approx(1)


def test_several_entries_a_row_stay_together() -> None:
    part, share = Ranks(1, 2).part({"input_ids": torch.arange(12).view(12, 1)}, 3, TAGS.counted)
    assert part["input_ids"].flatten().tolist() == [*range(4, 12)] and share == pytest.approx(2 / 3)


def test_a_share_is_of_what_the_loss_counts() -> None:
    labels = torch.tensor([[1, 2, 0], [1, -100, -100]])
    assert [Ranks(n, 2).part({"labels": labels}, 2, TAGS.counted)[1] for n in (0, 1)] == [0.75, 0.25]
    nothing = torch.full((2, 3), -100)  # extra losses still count once
    assert [Ranks(n, 2).part({"labels": nothing}, 2, TAGS.counted)[1] for n in (0, 1)] == [0.5, 0.5]
    assert gw.heads.CausalLM().counted(torch.tensor([[5, 6, -100]])) == 1  # the first token is not predicted


def test_one_process_takes_all_and_draws_as_before() -> None:
    batch = {"labels": torch.arange(3)}
    part, share = Ranks().part(batch, 3, TAGS.counted)
    assert part == batch and share == 1.0
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with Ranks().own_draws(7, torch.device("cpu")):
        assert torch.rand(2).equal(expected)


def test_dropout_differs_by_rank_and_what_is_drawn_outside_does_not() -> None:
    inside, outside = [], []
    for number in (0, 1):
        torch.manual_seed(0)
        with Ranks(number, 2).own_draws(7, torch.device("cpu")):
            inside.append(torch.rand(4))
        outside.append(torch.rand(4))
    assert not inside[0].equal(inside[1]) and outside[0].equal(outside[1])


def test_ranks_are_those_that_a_launcher_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a scheduler's own, not a launcher's
    assert ranks_started() == 1
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert ranks_started() == 4
