"""The head that tells tasks apart: right on its own texts, sure only as far as texts left out allow, the same every time."""

from __future__ import annotations

import pytest
import torch

import graftwork as gw
from graftwork.training.task_head import TaskHead


def clouds(count: int = 60, noise: float = 0.2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return {
        name: torch.eye(12)[at] + noise * torch.randn(count, 12, generator=draw)
        for at, name in enumerate(("a", "b", "c"))
    }


def test_it_tells_tasks_apart_and_is_the_same_every_time() -> None:
    head, again = TaskHead.fit(clouds()), TaskHead.fit(clouds())
    for at, rows in enumerate(clouds(noise=0.1).values()):
        assert (head.probabilities(rows).argmax(1) == at).all()
    assert all(torch.equal(tensor, again.tensors()[name]) for name, tensor in head.tensors().items())


def test_distances_are_mahalanobis_s() -> None:
    states = clouds()
    head = TaskHead.fit(states)
    unit = [torch.nn.functional.normalize(rows.double(), dim=-1) for rows in states.values()]
    around = torch.cat([rows - rows.mean(0) for rows in unit])
    inverse = torch.linalg.inv(around.T @ around / len(around) + head.rest * torch.eye(12))
    apart = unit[0][:5] - unit[1].mean(0)
    expected = torch.einsum("nd,de,ne->n", apart, inverse, apart)
    torch.testing.assert_close(head.distances(states["a"][:5])[:, 1], expected)


def test_its_reach_holds_its_own_texts_and_not_what_lies_elsewhere() -> None:
    head = TaskHead.fit(clouds())
    away = torch.eye(12)[6:9] + 0.05
    assert (head.distances(away) > head.reach).all()
    inside = [
        (head.distances(rows)[:, at] <= head.reach[at]).double().mean() for at, rows in enumerate(clouds().values())
    ]
    assert min(inside) > 0.9


def test_it_is_no_surer_than_texts_left_out_allow() -> None:
    """Texts that say nothing of their task: whatever was fitted, each task is as probable as any other."""
    draw = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(40, 64, generator=draw) for name in ("a", "b")}
    assert TaskHead.fit(noise).probabilities(torch.randn(200, 64, generator=draw)).amax(1).mean() < 0.6


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({"a": torch.ones(9, 4)}, "there are 1 tasks"),
        ({"a": torch.ones(9, 4), "b": torch.ones(4, 4)}, "'b' has 4 texts"),
    ],
)
def test_too_little_to_fit(states: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(gw.ConfigError, match=said):
        TaskHead.fit(states)
