"""Rows behind one another in a block."""

import torch

from graftwork.tasks.packing import block_batch, packed

FEATURES = [
    {"input_ids": [1, 2, 3], "labels": [-100, 2, 3]},
    {"input_ids": [4, 5], "labels": [4, 5]},
    {"input_ids": [6, 7, 8, 9], "labels": [-100, -100, 8, 9]},
    {"input_ids": [1] * 7, "labels": [1] * 7},
]


def test_blocks_in_the_order_of_the_rows() -> None:
    blocks = packed(FEATURES, 6)
    assert blocks[0] == {"input_ids": [1, 2, 3, 4, 5], "labels": [-100, 2, 3, -100, 5], "rows": [3, 2]}
    assert [block["rows"] for block in blocks] == [[3, 2], [4], [7]]  # one that is longer than a block is one
    assert FEATURES[0]["input_ids"] == [1, 2, 3]


def test_positions_and_a_mask_in_which_no_row_sees_another() -> None:
    batch = block_batch(packed(FEATURES[:3], 6), 0, torch.float64)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    seen = batch["attention_mask"][:, 0] == 0
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert seen[1, 4].int().tolist() == [0, 0, 0, 0, 1]
    assert (batch["attention_mask"][:, 0][~seen] == torch.finfo(torch.float64).min).all()
