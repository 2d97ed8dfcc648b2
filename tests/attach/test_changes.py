"""What a model carries is changed by one thread at a time, each change whole; forward passes wait for none."""

from __future__ import annotations

import signal
import statistics
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import nn

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively

POOL = gw.Fuse("a", "b", name="ab")


def setup() -> tuple[nn.Module, gw.Adapters]:
    model = bert_classifier(num_hidden_layers=1)
    adapters = gw.attach(model)
    for n, name in enumerate("ab"):
        adapters.add(name, gw.Pfeiffer())
        lively(adapters, name, seed=n)
    adapters.add_fusion(POOL)
    lively(adapters, "ab")
    return model, adapters


@pytest.fixture
def hasty() -> Any:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def together(*work: Callable[[], Any]) -> list[Any]:
    """What some functions give or raise that run at once, each in a thread of its own."""
    start, found = threading.Barrier(len(work)), [None] * len(work)

    def run(n: int) -> None:
        start.wait()
        try:
            found[n] = work[n]()
        except Exception as error:
            found[n] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.usefixtures("hasty")
def test_one_of_several_threads_adds_a_name() -> None:
    _, adapters = setup()
    for n in range(10):
        found = together(*[lambda n=n: adapters.add(f"new{n}", gw.Pfeiffer())] * 4)  # type: ignore[misc]
        assert [type(one).__name__ for one in found].count("NameTakenError") == 3, found
    assert adapters.names == ("a", "b", *(f"new{n}" for n in range(10)))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("rounds", [15])
def test_forward_passes_while_others_come_and_go(rounds: int, tmp_path: Path) -> None:
    """Two threads add, load and remove, two compute with what stays, one makes fusions: every output is exact."""
    model, adapters = setup()
    adapters.save("a", tmp_path / "a")
    inputs = ids(2, 5)
    alone = {}
    for one in (None, "a", "b", POOL):
        with adapters.using(one), torch.no_grad():
            alone[one] = model(inputs).logits
    over = threading.Event()

    def compute() -> int:
        wrong = done = 0
        while not over.is_set() or not done:
            for one, right in alone.items():
                with adapters.using(one), torch.no_grad():
                    wrong += not torch.equal(model(inputs).logits, right)
            done += 1
        return wrong

    def change(name: str) -> None:
        try:
            for _ in range(rounds):
                adapters.add(name, gw.Houlsby(norms="base"))
                adapters.load(tmp_path / "a", f"loaded {name}")
                adapters.add_fusion(gw.Fuse("a", name, name=f"f{name}"))
                adapters.remove(f"f{name}")
                adapters.remove(name)
                adapters.remove(f"loaded {name}")
        finally:
            over.set()

    found = together(compute, compute, lambda: change("x"), lambda: change("y"))
    assert found == [0, 0, None, None]
    assert adapters.names == ("a", "b") and tuple(adapters.fusions) == ("ab",)


def test_a_save_and_a_load_wait_for_a_change(tmp_path: Path) -> None:
    _, adapters = setup()
    found = together(*(lambda n=n: adapters.load(adapters.save("a", tmp_path / str(n)), f"l{n}") for n in range(4)))  # type: ignore[misc]
    assert sorted(found) == ["l0", "l1", "l2", "l3"]


def state(model: nn.Module, adapters: gw.Adapters) -> dict[str, Any]:
    return {
        "names": (adapters.names, tuple(adapters.fusions), sorted(model.state_dict())),
        "active": (repr(adapters.active), adapters.trainable),
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "learning": {name: m.trainable for name, m in model.named_modules() if hasattr(m, "trainable")},
    }


CHANGES: dict[str, Callable[[gw.Adapters], Any]] = {
    "train_only": lambda adapters: adapters.train_only(POOL),
    "another": lambda adapters: adapters.train_only("b", base="norms"),
    "add": lambda adapters: adapters.add("c", gw.Houlsby(norms="own")),
    "add_fusion": lambda adapters: adapters.add_fusion(gw.Fuse("b", "a", name="ba")),
    "add_head": lambda adapters: adapters.add_head("a", 5),
    "remove": lambda adapters: adapters.remove("ab"),
    "active": lambda adapters: setattr(adapters, "active", POOL),
}


@pytest.fixture
def heard() -> Any:
    """Ctrl-C raises, though the tests were begun by something that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("key", CHANGES)
def test_interrupted_anywhere(key: str) -> None:
    """Ctrl-C leaves a change undone or done, never half."""
    model, adapters = setup()
    adapters.train_only("a")
    before = state(model, adapters)
    lines = count(lambda: CHANGES[key](adapters))
    after = state(model, adapters)
    assert before != after
    ended = []
    for nth in range(1, lines, max(1, lines // 5)):
        model, adapters = setup()
        adapters.train_only("a")
        with pytest.raises(KeyboardInterrupt):
            count(lambda adapters=adapters: CHANGES[key](adapters), nth)  # type: ignore[misc]
            signal.raise_signal(signal.SIGINT)  # one that came behind the last line is not there yet
        now = state(model, adapters)
        assert now in (before, after), nth
        ended.append(now == after)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert any(ended), "no interruption came while the change was under way"


def count(work: Callable[[], Any], interrupt: int = 0) -> int:
    """How many lines of ours run in some work; Ctrl-C comes in one of them, where its number is given."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        file = frame.f_code.co_filename.replace("\\", "/")
        if not any(f"graftwork/{part}/" in file for part in ("attach", "forward", "peft_bridge", "weights")):
            return None
        if event == "line":
            lines += 1
            if lines == interrupt:
                signal.raise_signal(signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return lines


def test_an_adapter_more_costs_what_the_first_did(tmp_path: Path) -> None:
    """Nothing is made anew for what is there already: looked at by a count of calls, which no other process changes."""
    _, adapters = setup()

    def calls(change: Callable[[], object]) -> int:
        count = 0

        def counted(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(counted)
        try:
            change()
        finally:
            sys.setprofile(None)
        return count

    found: list[dict[str, int]] = []
    for n in range(60):
        folder = tmp_path / str(n)
        changes: dict[str, Callable[[], object]] = {
            "add": lambda: adapters.add("one", gw.Pfeiffer()),
            "activate": lambda: adapters.activate("one"),
            "save": lambda folder=folder: adapters.save("one", folder),
            "leave": lambda: adapters.activate(None),
            "remove": lambda: adapters.remove("one"),
            "load": lambda folder=folder, n=n: adapters.load(folder, f"n{n}"),
        }
        found.append({name: calls(change) for name, change in changes.items()})
    for name in found[0]:
        many = [counts[name] for counts in found]
        assert statistics.median(many[-10:]) <= 1.02 * statistics.median(many[1:11]), (name, many)


def test_what_is_added_and_loaded_in_inference_mode_can_be_trained(tmp_path: Path) -> None:
    _, adapters = setup()
    with torch.inference_mode():
        adapters.add("new", gw.Pfeiffer())
        adapters.save("new", tmp_path / "new")
        adapters.load(tmp_path / "new", "again")
        adapters.add_fusion(gw.Fuse("new", "again", name="both"))
    for name in ("new", "again", "both"):
        adapters.train_only(name)
        sum(p.sum() for p in adapters.trainable_parameters()).backward()
        assert all(p.grad is not None for p in adapters.trainable_parameters())
