"""Pruning a fusion: which adapters it looks at most, and the smaller fusion of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import graftwork as gw
from graftwork.attach import mean_attention
from tests.support.attached import bert_classifier, ids, lively, output

NAMES = "abcd"
POOL = gw.Fuse(*NAMES, name="f")


def batches() -> list[dict[str, torch.Tensor]]:
    found = []
    for n in range(3):
        mask = torch.ones(4, 7, dtype=torch.long)
        mask[n, 3:] = 0
        found.append({"input_ids": ids(seed=n), "attention_mask": mask})
    return found


def setup() -> tuple[Any, gw.Adapters]:
    model = bert_classifier()
    adapters = gw.attach(model)
    for n, name in enumerate(NAMES):
        adapters.add(name, gw.Pfeiffer(reduction_factor=4))
        lively(adapters, name, seed=n, size=0.3)
    adapters.add_fusion(POOL)
    lively(adapters, "f", seed=9, size=0.1)
    return model, adapters


def test_attention_is_the_mean_over_unpadded_positions() -> None:
    _, adapters = setup()
    with adapters.using(POOL):
        found = mean_attention(adapters, "f", batches())
        for site, mean in found.items():
            rows = [adapters.fusion_weights(**b)["f"][site][b["attention_mask"].bool()].double() for b in batches()]
            torch.testing.assert_close(mean, torch.cat(rows).mean(0))
    assert len(found) == 2


@pytest.mark.parametrize("name", [None, "small"])
def test_a_pruned_fusion_is_the_fusion_of_those_it_looks_at_most(name: str | None, tmp_path: Path) -> None:
    model, adapters = setup()
    model.train()
    pruned = adapters.prune_fusion("f", batches(), keep=2, name=name)
    assert model.training
    model.eval()
    assert sum(pruned.attention) == pytest.approx(1.0)
    kept = sorted(sorted(range(4), key=lambda n: -pruned.attention[n])[:2])
    assert pruned.kept == tuple(kept)
    members = [NAMES[n] for n in kept]
    assert pruned.block == gw.Fuse(*members, name=name or "f")
    assert str(pruned).count("left out") == 2
    (batch, *_) = batches()
    with adapters.using(gw.Fuse(*members, name="f")):
        expected = output(model, batch)
    with adapters.using(pruned.block):
        assert torch.equal(output(model, batch), expected)
        small = adapters.fusion_weights(**batch)[name or "f"]
    with adapters.using(POOL):
        whole = adapters.fusion_weights(**batch)["f"]
    first = min(small)  # where no fusion stands before it: the softmax over fewer is the same scores, scaled anew
    picked = whole[first][..., kept]
    torch.testing.assert_close(small[first], picked / picked.sum(-1, keepdim=True))
    if name is not None:
        assert adapters.fusions["small"] == pruned.block
        theirs = {n: p for m in adapters.head_of("f").values() for n, p in m.named_parameters()}
        mine = {n: p for m in adapters.head_of("small").values() for n, p in m.named_parameters()}
        assert all(torch.equal(p, mine[n]) for n, p in theirs.items())
        lively(adapters, "f", seed=1)
        with adapters.using(pruned.block):
            assert torch.equal(output(model, batch), expected)  # a copy: it refers to nothing of the old one
        adapters.save("small", tmp_path / "small")


def test_inside_another_composition() -> None:
    model, adapters = setup()
    adapters.add("lang", gw.Houlsby(bottleneck_size=4))
    lively(adapters, "lang", seed=7)
    under = gw.Stack("lang", POOL)
    pruned = adapters.prune_fusion("f", batches(), keep=3, active=under)
    assert pruned.attention != adapters.prune_fusion("f", batches(), keep=3).attention
    assert adapters.active is None
    with adapters.using(gw.Stack("lang", pruned.block)):
        assert output(model, batches()[0]).shape == (4, 3)


def test_bad_input_is_refused() -> None:
    _, adapters = setup()
    with pytest.raises(gw.UnknownNameError, match="no fusion is called 'g'"):
        adapters.prune_fusion("g", batches(), keep=2)
    for keep in (0, 5, True, 1.5):
        with pytest.raises(gw.CompositionError, match="has 4 adapters"):
            adapters.prune_fusion("f", batches(), keep=keep)  # type: ignore[arg-type]
    with pytest.raises(gw.CompositionError, match="took part in no batch"):
        adapters.prune_fusion("f", [], keep=2)
    with pytest.raises(gw.CompositionError, match="took part in no batch"):
        adapters.prune_fusion("f", batches(), keep=2, active="a")
    with pytest.raises(gw.CompositionError, match="another pool under the name 'f'"):
        adapters.prune_fusion("f", batches(), keep=1, active=gw.Fuse("a", "b", name="f"))
    with pytest.raises(gw.NameTakenError, match="'a' is there already"):
        adapters.prune_fusion("f", batches(), keep=2, name="a")
    assert tuple(adapters.fusions) == ("f",)
