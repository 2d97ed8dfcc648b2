"""`using` counts in the thread, the asyncio task or the generator that says it, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Iterator

import pytest
import torch
from torch import Tensor, nn

import graftwork as gw
from tests.support.attached import bert_classifier, ids, lively

NAMES = (None, "a", "b", "c")


class Setup:
    """A model with adapters, and which of them a forward pass computed."""

    def __init__(self) -> None:
        self.model: nn.Module = bert_classifier(num_hidden_layers=1)
        self.adapters = gw.attach(self.model)
        for n, name in enumerate("abc"):
            self.adapters.add(name, gw.Pfeiffer())
            lively(self.adapters, name, seed=n)
        self.inputs = {"input_ids": ids(2, 5)}
        self.alone: dict[str | None, Tensor] = {}
        for one in NAMES:
            with self.adapters.using(one):
                self.alone[one] = self.output()

    @torch.no_grad()
    def output(self) -> Tensor:
        logits: Tensor = self.model(**self.inputs).logits
        return logits

    def active(self) -> str | None:
        """The one whose output this is, to the bit."""
        output = self.output()
        (found,) = (name for name in NAMES if torch.equal(output, self.alone[name]))
        return found

    def each(self, name: str | None) -> Iterator[str | None]:
        """A generator that says what it computes with."""
        with self.adapters.using(name):
            while True:
                yield self.active()

    async def each_later(self, name: str | None) -> AsyncIterator[str | None]:
        with self.adapters.using(name):
            while True:
                await asyncio.sleep(0)
                yield self.active()


@pytest.fixture(scope="module")
def model() -> Setup:
    return Setup()


@pytest.mark.parametrize("rounds", [25])
def test_tasks_at_once(model: Setup, rounds: int) -> None:
    async def task(name: str | None) -> int:
        wrong = 0
        for n in range(rounds):
            with model.adapters.using(name):
                await asyncio.sleep(0)
                wrong += model.active() != name
                with model.adapters.using(NAMES[n % 4]):
                    await asyncio.sleep(0)
                    wrong += model.active() != NAMES[n % 4]
        return wrong

    async def main() -> list[int]:
        return await asyncio.gather(*(task(NAMES[n % 4]) for n in range(8)))

    assert asyncio.run(main()) == [0] * 8
    assert model.active() is None


def test_what_a_task_starts_has_its_own(model: Setup) -> None:
    async def child() -> str | None:
        await asyncio.sleep(0)
        return model.active()

    async def main() -> list[str | None]:
        with model.adapters.using("a"):
            inside = await asyncio.gather(child(), child(), asyncio.to_thread(model.active))
        return [*inside, await child()]

    assert asyncio.run(main()) == ["a", "a", "a", None]


def test_a_suspended_generator_leaves_nothing_behind(model: Setup) -> None:
    one, other = model.each("a"), model.each("b")
    found = []
    for _ in range(3):
        found += [next(one), model.active(), next(other)]
        with model.adapters.using("c"):
            found += [model.active(), next(one), model.active()]
    assert found == ["a", None, "b", "c", "a", "c"] * 3
    one.close()
    assert next(other) == "b"
    del other  # never closed by hand
    assert model.active() is None


def test_what_a_generator_calls_is_inside(model: Setup) -> None:
    def outer() -> Iterator[str | None]:
        with model.adapters.using("a"):
            inner = model.each("b")
            yield next(inner)
            yield model.active()
            with contextlib.ExitStack() as stack:
                stack.enter_context(model.adapters.using("c"))
                yield model.active()
                yield next(inner)
            yield model.active()
            yield called()

    def called() -> str | None:
        with model.adapters.using("b"):
            return model.active()

    found = []
    for name in outer():
        found += [name, model.active()]
    assert found[1::2] == [None] * 6
    assert found[::2] == ["b", "a", "c", "b", "a", "b"]


def test_generators_whose_items_are_taken_in_contexts_of_their_own(model: Setup) -> None:
    """As servers do that run a generator in worker threads."""
    stream = model.each("a")
    contexts = [contextvars.copy_context() for _ in range(3)]
    assert [context.run(next, stream) for context in contexts] == ["a", "a", "a"]
    stream.close()


def test_context_managers_of_generators(model: Setup) -> None:
    @contextlib.contextmanager
    def only(name: str) -> Iterator[None]:
        with model.adapters.using(name):
            yield

    @contextlib.asynccontextmanager
    async def later(name: str) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(only(name))
            yield

    @only("b")
    def decorated() -> str | None:
        return model.active()

    async def main() -> list[str | None]:
        async with later("c"):
            return [model.active(), await asyncio.to_thread(model.active)]

    with only("a"), contextlib.ExitStack() as stack:
        assert model.active() == "a"
        stack.enter_context(only("b"))
        assert model.active() == "b"
    assert (decorated(), decorated(), model.active()) == ("b", "b", None)
    assert asyncio.run(main()) == ["c", "c"]


def test_generators_of_asyncio(model: Setup) -> None:
    async def main() -> list[str | None]:
        found: list[str | None] = []
        one, other = model.each_later("a"), model.each_later("b")
        with model.adapters.using("c"):
            for _ in range(3):
                found += [await anext(one), model.active(), await anext(other)]
            with pytest.raises(gw.AttachError, match=r"asynchronous generator.*in the function that calls the model"):
                await asyncio.to_thread(model.active)  # started by whom cannot be told
        found.append(await asyncio.to_thread(decorated))
        await one.aclose()  # type: ignore[attr-defined]
        await other.aclose()  # type: ignore[attr-defined]
        return [*found, model.active(), await asyncio.to_thread(model.active)]

    def decorated() -> str | None:
        with model.adapters.using("b"):
            return model.active()

    assert asyncio.run(main()) == ["a", "c", "b"] * 3 + ["b", None, None]


def test_out_of_order(model: Setup) -> None:
    one, other = model.adapters.using("a"), model.adapters.using("b")
    one.__enter__()
    other.__enter__()
    with pytest.raises(gw.AttachError, match=r"using\('a'\) is left before another one"):
        one.__exit__(None, None, None)
    assert model.active() == "b"
    other.__exit__(None, None, None)
    assert model.active() is None
    context = contextvars.copy_context()
    one = model.adapters.using("a")
    context.run(one.__enter__)
    with pytest.raises(gw.AttachError, match="in another thread or task"):
        one.__exit__(None, None, None)


def test_compiled(model: Setup) -> None:
    """The same code, compiled whole, asks at every call."""
    torch._dynamo.reset()
    compiled = torch.compile(model.model, backend="eager", fullgraph=True)

    def active() -> str | None:
        with torch.no_grad():
            output = compiled(**model.inputs).logits
        (found,) = (name for name in NAMES if torch.allclose(output, model.alone[name], atol=1e-5))
        return found

    def each(name: str) -> Iterator[str | None]:
        with model.adapters.using(name):
            while True:
                yield active()

    async def task(name: str | None) -> list[str | None]:
        with model.adapters.using(name):
            await asyncio.sleep(0)
            return [active(), await asyncio.to_thread(active)]

    async def main() -> list[list[str | None]]:
        return await asyncio.gather(*map(task, NAMES))

    assert asyncio.run(main()) == [[name, name] for name in NAMES]
    streams = [each("a"), each("b")]
    assert [(next(stream), active()) for _ in range(2) for stream in streams] == [("a", None), ("b", None)] * 2
    torch._dynamo.reset()


def test_two_models(model: Setup) -> None:
    second = Setup()
    with model.adapters.using("a"), second.adapters.using("b"):
        assert (model.active(), second.active()) == ("a", "b")
