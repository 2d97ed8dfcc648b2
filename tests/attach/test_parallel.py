"""Two processes on one batch: DDP gives the gradients of one process, and every weight that learns gets one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import assert_close, bert_classifier, grads, ids, lively

INPUTS = {"input_ids": ids(4), "labels": torch.tensor([0, 2, 1, 1])}
POOL = gw.Fuse("a", "b", name="ab")
CASES: dict[str, Any] = {"adapter": "h", "fusion": POOL, "stack": gw.Stack("a", "h")}


def setup(case: str) -> Any:
    model = bert_classifier()
    torch.manual_seed(0)
    adapters = gw.attach(model)
    for n, (name, config) in enumerate({"a": gw.Pfeiffer(), "b": gw.Pfeiffer(), "h": gw.Houlsby()}.items()):
        adapters.add(name, config)
        lively(adapters, name, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    adapters.train_only(CASES[case] if case != "stack" else "h", active=CASES[case])
    model.train()
    return model


def step(run: nn.Module, rows: slice) -> None:
    run(**{k: v[rows] for k, v in INPUTS.items()}).loss.backward()


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        found = {}
        for case in CASES:
            model = setup(case)
            parallel = nn.parallel.DistributedDataParallel(model)
            for turn in range(2):  # in the second step it refuses weights that had no gradient in the first
                step(parallel, slice(2 * rank, 2 * rank + 2))
                found[f"{case} {turn}"] = grads(model)
        if rank == 0:
            torch.save(found, Path(folder) / "found.pt")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")
def test_gradients_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    mp.spawn(worker, args=(str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for case in CASES:
        model = setup(case)
        step(model, slice(0, 4))
        plain: dict[str, Tensor] = grads(model)
        assert set(plain) == {n for n, p in model.named_parameters() if p.requires_grad}
        for turn in range(2):
            assert_close(plain, found[f"{case} {turn}"], rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------------------------------------------------- DataParallel


def replica_of(model: nn.Module) -> nn.Module:
    """What DataParallel makes of a model for another device: shallow copies of all modules, with tensors of their own."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, copied in copies.items():
        for name, child in module._modules.items():
            if child is not None:
                setattr(copied, name, copies[child])
        for name, p in module._parameters.items():
            if p is not None:
                setattr(copied, name, p * 1.0)
    return copies[model]


@pytest.mark.parametrize("active", [None, "a", POOL])
@pytest.mark.parametrize("inside", [False, True])
def test_replicas_of_data_parallel_are_refused(active: gw.Composition, inside: bool) -> None:
    """Also of what is around the blocks, and with nothing active: `using` of this thread is not that of the replicas'."""
    model = setup("adapter")
    gw.of(model).active = active
    replica = replica_of(model.bert if inside else model)
    with pytest.raises(gw.AttachError, match=r"DataParallel runs a replica.*accelerate launch"):
        replica(input_ids=INPUTS["input_ids"])


def test_replicas_of_a_plain_model_run() -> None:
    model = bert_classifier()
    gw.attach(model)
    assert torch.equal(replica_of(model)(INPUTS["input_ids"]).logits, model(INPUTS["input_ids"]).logits)


def test_a_wrapped_model_is_refused_with_the_way_out() -> None:
    with pytest.raises(gw.AttachError, match=r"wrapped in DataParallel.*process of its own"):
        gw.attach(nn.DataParallel(bert_classifier()))
