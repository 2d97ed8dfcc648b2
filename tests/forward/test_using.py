"""`active` is for all threads; `using` is for one, nests, and restores."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import graftwork as gw
from tests.support.attached import lively, output, with_adapters

POOL = gw.Fuse("a", "b", name="ab")
COMPOSITIONS = ("a", "b", None, gw.Stack("a", "b"), gw.Average("a", "b"), POOL, gw.MixedBatch(["a", None, "b"]), "c")


def setup() -> tuple[torch.nn.Module, gw.Adapters, dict[str, Tensor]]:
    model, adapters, inputs = with_adapters("bert", a=gw.Pfeiffer(), b=gw.Pfeiffer(), c=gw.Houlsby())
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    return model, adapters, inputs


def test_nests_and_restores() -> None:
    model, adapters, inputs = setup()
    alone = {}
    for composition in COMPOSITIONS:
        adapters.active = composition
        alone[composition] = output(model, inputs)
    adapters.active = "a"
    with adapters.using("b"):
        assert torch.equal(output(model, inputs), alone["b"])
        with adapters.using(None):
            assert torch.equal(output(model, inputs), alone[None])
            with adapters.using("ab"):  # a fusion by its name
                assert torch.equal(output(model, inputs), alone[POOL])
        assert torch.equal(output(model, inputs), alone["b"])
        adapters.active = "c"  # the default, which is not what is used here
        assert torch.equal(output(model, inputs), alone["b"])
    assert torch.equal(output(model, inputs), alone["c"])


def test_restores_after_an_exception() -> None:
    model, adapters, inputs = setup()
    adapters.active = "a"
    right = output(model, inputs)
    with pytest.raises(ValueError, match="on purpose"), adapters.using("b"), adapters.using("c"):
        raise ValueError("on purpose")
    assert torch.equal(output(model, inputs), right)
    with pytest.raises(gw.UnknownNameError, match="no adapter is called 'd'"), adapters.using("d"):
        raise AssertionError
    with pytest.raises(gw.CompositionError), adapters.using(gw.MixedBatch(["a", "b"])):  # three rows
        output(model, inputs)
    with pytest.raises(gw.CompositionError, match="no composition"), adapters.using(3):  # type: ignore[arg-type]
        raise AssertionError
    assert torch.equal(output(model, inputs), right)
    with pytest.raises(gw.UnknownNameError):
        adapters.active = "d"
    assert adapters.active == "a"
    assert torch.equal(output(model, inputs), right)


def test_active_is_seen_by_every_thread_and_using_by_one() -> None:
    model, adapters, inputs = setup()
    with ThreadPoolExecutor(1) as other:
        plain = other.submit(output, model, inputs).result()
        adapters.active = "a"
        seen = other.submit(output, model, inputs).result()
        assert torch.equal(seen, output(model, inputs))
        assert not torch.equal(seen, plain)
        with adapters.using("b"):
            assert torch.equal(other.submit(output, model, inputs).result(), seen)
            assert not torch.equal(output(model, inputs), seen)


def test_threads_with_different_compositions_at_once() -> None:
    model, adapters, inputs = setup()
    alone = []
    for composition in COMPOSITIONS:
        with adapters.using(composition):
            alone.append(output(model, inputs))
    start, wrong = threading.Barrier(len(COMPOSITIONS)), []

    def rounds(n: int) -> None:
        start.wait()
        for turn in range(12):
            if turn % 3 == 2:  # weights of the fusion are folded anew by all threads at once
                start.wait()
            with adapters.using(COMPOSITIONS[n]):
                if not torch.equal(output(model, inputs), alone[n]):
                    wrong.append(COMPOSITIONS[n])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=rounds, args=(n,)) for n in range(len(COMPOSITIONS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_what_is_active_cannot_be_removed() -> None:
    model, adapters, inputs = setup()
    adapters.active = gw.Stack("c", POOL)
    for name in ("a", "c", "ab"):
        with pytest.raises(gw.CompositionError):
            adapters.remove(name)
    adapters.active = "c"
    with pytest.raises(gw.CompositionError, match="in the pool"):
        adapters.remove("a")
    with adapters.using("a"):
        right = output(model, inputs)
    adapters.remove(POOL)
    adapters.remove("b")
    assert adapters.names == ("a", "c")
    with adapters.using("a"):
        assert torch.equal(output(model, inputs), right)
    with pytest.raises(gw.UnknownNameError):
        adapters.remove("b")
    assert not [key for key in model.state_dict() if "n_b." in key or "n_ab." in key]
