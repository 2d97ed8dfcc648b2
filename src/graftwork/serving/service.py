"""What a server answers, without HTTP: tasks are looked up, rows are queued for the model, tasks are added and removed."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from graftwork.errors import GraftworkError, ServingError
from graftwork.experiments.running.finder import joined
from graftwork.serving.base import Asked, Base, Looked, ServedTask, Sought
from graftwork.serving.batching import Batcher, Item
from graftwork.serving.encoding import Encoder
from graftwork.serving.metrics import Metrics
from graftwork.serving.refusals import ForbiddenError, RefusedError, TooLongError, UnknownTaskError
from graftwork.serving.sources import saved_task
from graftwork.serving.store import Kept, Store
from graftwork.tasks import Prediction

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        max_batch: The most rows of a batch.
        max_wait_ms: The milliseconds that a row waits for others, at most.
        max_queue: The most rows that wait.
        max_rows: The most rows of one request.
        max_bytes: The most bytes of one request.
        deadline_ms: The milliseconds after which a request is given up, unless it says fewer itself.
    """

    max_batch: int = 32
    max_wait_ms: float = 2.0
    max_queue: int = 1024
    max_rows: int = 256
    max_bytes: int = 2**20
    deadline_ms: float = 30_000.0


@dataclasses.dataclass(eq=False)
class _Used:
    """A base with its queue and its encoder."""

    base: Base
    batcher: Batcher
    encoder: Encoder


class Service:
    """The tasks of some bases, each base with one queue and one thread.

    Args:
        bases: The bases.
        tasks: The tasks that are served from the start, each ready (`Base.admit`).
        limits: What is allowed.
        store: Where tasks are added from; without one none are added.
        default: The task of a request that names none; without it the task is sought.
    """

    def __init__(
        self,
        bases: Sequence[Base],
        tasks: Iterable[ServedTask],
        limits: Limits | None = None,
        *,
        store: Store | None = None,
        default: str | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.tasks = {task.name: task for task in tasks}
        self.default, self.store, self.metrics = default, store, Metrics()
        self._used = {id(base): self._made(base) for base in bases}
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="graftwork-encode")
        self._changing, self._versions = asyncio.Lock(), 0
        self.metrics.follow(lambda: sum(one.batcher.waiting for one in self._used.values()), lambda: len(self.tasks))

    def _made(self, base: Base) -> _Used:
        limits = self.limits
        batcher = Batcher(
            base.compute,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait_ms / 1000,
            max_queue=limits.max_queue,
            observe=self.metrics.batch,
        )
        return _Used(base, batcher, Encoder(base))

    # -- which task --------------------------------------------------------------------------------------------------

    def task(self, name: str) -> ServedTask:
        """Return a task.

        Raises:
            UnknownTaskError: If none of that name is served.
        """
        if name not in self.tasks:
            raise UnknownTaskError(name, self.tasks)
        return self.tasks[name]

    async def sought(self, texts: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return the task that some typed texts belong to, and the score of each.

        Raises:
            RefusedError: If it is not clear, or cannot be sought here.
        """
        if self.default in self.tasks or len(self.tasks) == 1:
            return str(self.default if self.default in self.tasks else next(iter(self.tasks))), {}
        finding = [one for one in self._used.values() if one.base.find is not None]
        if len(self._used) != 1 or not finding:
            raise RefusedError(
                'say which task, "task": NAME: the task of a text cannot be found here (GET /v1/tasks lists all)'
            )
        text = joined(texts)
        (found,) = await finding[0].batcher.submit([Item(Sought(text), "sought", len(text))], self._seconds(None))
        if isinstance(found, Exception):
            raise found
        scores = {name: float(score) for name, score in found.candidates}
        if found.name is None or found.name not in self.tasks:
            why = found.refused or f"{found.name!r} is not served"
            raise RefusedError(
                f'which task the text asks for is not clear: {why} (scores: {found.scores}); say which, "task": NAME'
            )
        return found.name, scores

    # -- answers -----------------------------------------------------------------------------------------------------

    async def predict(
        self, names: Sequence[str], rows: Sequence[Row], *, cut: bool = False, deadline_ms: float | None = None
    ) -> list[dict[str, Any]]:
        """Return for each row what `graftwork predict` prints: of one task, or under the name of each of several.

        A row that cannot be predicted has ``{"error": ...}`` in its place.

        Args:
            names: The tasks.
            rows: The rows; each is predicted by every task.
            cut: Whether longer texts than a task reads are cut off.
            deadline_ms: The milliseconds within which the answer must be there, if fewer than the server's.

        Raises:
            ServingError: If the request is refused, or not one of its rows can be predicted.
        """
        self._check_rows(rows)
        tasks = [self.task(name) for name in names]
        seconds = self._seconds(deadline_ms)
        parts = [asyncio.ensure_future(self._of_task(task, rows, cut, seconds)) for task in tasks]
        try:
            by_task = await asyncio.gather(*parts)
        finally:
            for part in parts:  # where one is refused, so are all
                part.cancel()
        every = [found for part in by_task for found in part]
        errors = [found for found in every if isinstance(found, Exception)]
        self.metrics.rows(len(every), len(errors))
        if errors and len(errors) == len(every):
            raise errors[0] if isinstance(errors[0], GraftworkError) else _broken(errors[0])
        if len(tasks) == 1:
            return [_as_dict(found) for found in by_task[0]]
        return [
            {task.name: _as_dict(found[n]) for task, found in zip(tasks, by_task, strict=True)}
            for n in range(len(rows))
        ]

    async def look(self, name: str, row: Row, *, deadline_ms: float | None = None) -> dict[str, Any]:
        """Return where the fusion of a task looks: the tokens of a row, the adapters, and by site the weights ``[token][adapter]``.

        Raises:
            ServingError: If the task has no fusion, or the request is refused.
        """
        task = self.task(name)
        if task.fusion is None:
            raise RefusedError(f"the task {name!r} has no fusion: it looks at its own adapter alone")
        (found,) = await self._of_task(task, [row], True, self._seconds(deadline_ms), Looked)
        if isinstance(found, Exception):
            raise found if isinstance(found, GraftworkError) else _broken(found)
        return dict(found)

    async def stream(self, name: str, row: Row, *, deadline_ms: float | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the answer of a task that writes: ``{"piece": ...}`` as soon as each is there, at the end the whole prediction.

        Raises:
            ServingError: If the task does not write piece by piece, or the request is refused; before the first piece.
        """
        task = self.task(name)
        if not task.kind.generates or task.kind.spec.num_beams > 1:
            raise RefusedError(f"the answers of {name!r} are not written piece by piece; leave stream out")
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop, left = asyncio.get_running_loop(), False

        def show(piece: str) -> None:
            if left:
                raise RefusedError("the client has gone")
            if piece:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        seconds = self._seconds(deadline_ms)
        answer = asyncio.ensure_future(self._of_task(task, [row], True, seconds, Asked, show))
        answer.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield {"piece": piece}
            (found,) = await answer
            if isinstance(found, Exception):
                raise found if isinstance(found, GraftworkError) else _broken(found)
            yield _as_dict(found)
        finally:
            left = True
            answer.cancel()

    async def _of_task(
        self,
        task: ServedTask,
        rows: Sequence[Row],
        cut: bool,
        seconds: float,
        form: type[Asked] = Asked,
        show: Callable[[str], None] | None = None,
    ) -> list[Any]:
        """The results of some rows of a task: values, and errors in the places of rows that cannot be computed."""
        loop, used = asyncio.get_running_loop(), self._used[id(task.base)]
        task.waiting += 1  # its adapter stays until this is over
        began = loop.time()
        try:
            encode = functools.partial(used.encoder.encode, task, rows, cut=cut)
            encoded = await loop.run_in_executor(self._encoding, encode)
            items = {}
            for n, one in enumerate(encoded):
                if isinstance(one, Asked):
                    alone = form is not Asked or show is not None
                    payload = form(one.task, one.rows, one.features, show) if alone else one
                    length = max(task.kind.lengths(one.features), default=1)
                    items[n] = Item(payload, object() if alone else task.group, length, len(one.features))
            left = max(seconds - (loop.time() - began), 0.001)
            found = dict(zip(items, await used.batcher.submit([*items.values()], left), strict=True))
            return [found.get(n, one) for n, one in enumerate(encoded)]
        finally:
            task.waiting -= 1
            if task.removed and not task.waiting:
                self._drop(task)

    def _check_rows(self, rows: Sequence[Row]) -> None:
        if len(rows) > self.limits.max_rows:
            raise TooLongError(
                f"{len(rows)} rows, and a request may have {self.limits.max_rows}; ask with fewer at a time"
            )

    def _seconds(self, deadline_ms: float | None) -> float:
        most = self.limits.deadline_ms
        return min(most, most if deadline_ms is None else deadline_ms) / 1000

    # -- changes -----------------------------------------------------------------------------------------------------

    async def add(
        self, name: str, folder: str, *, base: str | None = None, task: dict[str, Any] | None = None, keep: bool = True
    ) -> tuple[ServedTask, bool]:
        """Add a task, or replace it: requests that came before are answered by the former one.

        Args:
            name: Its name: letters, digits, ``_``, ``.`` and ``-``.
            folder: The folder of its adapter, relative to the store.
            base: The name of the base, where there are several.
            task: What is said of the task, as a `TaskSpec`.
            keep: Whether to write it down, so that a server that starts again serves it.

        Returns:
            The task, and whether it replaced one.

        Raises:
            GraftworkError: If the adapter cannot be served; nothing is changed then.
        """
        store = self._require_store()
        if not _NAME.fullmatch(name):
            raise RefusedError(
                f"{name!r:.200} cannot be the name of a task; use up to 100 letters, digits, '_', '.' and '-'"
            )
        used = self._base(base)
        async with self._changing:
            path = store.path(folder)
            self._versions += 1
            adapter = f"{name}@{self._versions}"

            def admitted() -> ServedTask:
                made = saved_task(name, path, used.base, task=task, adapter=adapter)
                used.base.admit(made)
                return made

            new = await used.batcher.change(admitted)
            try:
                if keep:
                    await asyncio.to_thread(store.keep, name, Kept(folder=folder, base=base, task=task))
            except BaseException:
                self._drop(new)
                raise
            old = self.tasks.get(name)
            self.tasks = {**self.tasks, name: new}
            self._retire(old)
            return new, old is not None

    async def remove(self, name: str) -> None:
        """Remove a task: requests that came before are answered.

        Raises:
            UnknownTaskError: If none of that name is served.
        """
        store = self._require_store()
        async with self._changing:
            old = self.task(name)
            await asyncio.to_thread(store.keep, name, None)
            self.tasks = {other: task for other, task in self.tasks.items() if other != name}
            self._retire(old)

    def _retire(self, old: ServedTask | None) -> None:
        if old is not None:
            old.removed = True
            if not old.waiting:
                self._drop(old)

    def _drop(self, task: ServedTask) -> None:
        """Take a task's adapter off the model when the worker is free."""
        used = self._used[id(task.base)]
        dropping = asyncio.ensure_future(used.batcher.change(lambda: task.base.drop(task)))
        dropping.add_done_callback(lambda done: done.cancelled() or done.exception())  # the server may be stopping

    def _require_store(self) -> Store:
        if self.store is None:
            raise ForbiddenError(
                "tasks cannot be changed while the server runs; start it with --admin-token and --store"
            )
        return self.store

    def _base(self, name: str | None) -> _Used:
        named = {used.base.name: used for used in self._used.values()}
        if name is None and len(named) == 1:
            return next(iter(named.values()))
        if name not in named:
            raise RefusedError(f"base is {name!r:.200}; there are several, say which: {', '.join(map(repr, named))}")
        return named[name]

    async def close(self) -> None:
        """Answer what waits, take no more, and end the threads."""
        await asyncio.gather(*(used.batcher.close() for used in self._used.values()))
        self._encoding.shutdown()


def _as_dict(found: Any) -> dict[str, Any]:
    if isinstance(found, Prediction):
        return found.to_dict()
    return {"error": str(found if isinstance(found, GraftworkError) else _broken(found))}


def _broken(error: Exception) -> ServingError:
    """The error of a fault of the server's, without its inside."""
    broken = ServingError(f"the row could not be computed ({type(error).__name__}); the server's log says more")
    broken.status = 500
    return broken
