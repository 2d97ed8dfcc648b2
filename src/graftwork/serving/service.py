"""What a server answers, without HTTP: rows are read, wait for the model, and become what `graftwork predict` prints."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from graftwork.errors import GraftworkError, ServingError
from graftwork.experiments.running.finder import joined
from graftwork.serving.base import Asked, Base, Looked, ServedTask, Sought
from graftwork.serving.batching import Batcher, Item
from graftwork.serving.metrics import Metrics
from graftwork.serving.refusals import RefusedError, TooLongError
from graftwork.serving.store import Store
from graftwork.serving.table import Table
from graftwork.tasks import Prediction

_LOG = logging.getLogger(__name__)
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
        self.limits, self.default, self.metrics = limits or Limits(), default, Metrics()
        self.table = Table(bases, tasks, self._batcher, store)
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="graftwork-encode")
        self.metrics.follow(lambda: sum(one.batcher.waiting for one in self.table.used), lambda: len(self.table.tasks))

    def _batcher(self, base: Base) -> Batcher:
        limits = self.limits
        return Batcher(
            base.compute,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait_ms / 1000,
            max_queue=limits.max_queue,
            observe=self.metrics.batch,
        )

    @property
    def only_task(self) -> str | None:
        """The task of a request that names none; ``None`` where it has to be sought."""
        names = [self.default] if self.default in self.table.tasks else list(self.table.tasks)
        return names[0] if len(names) == 1 else None

    async def sought(self, texts: Sequence[str]) -> tuple[str, dict[str, float]]:
        """Return the task that some typed texts belong to, and the score of each.

        Raises:
            RefusedError: If it is not clear, or cannot be sought here.
        """
        if self.only_task is not None:
            return self.only_task, {}
        finding = [one for one in self.table.used if one.base.find is not None]
        if len(self.table.used) != 1 or not finding:
            raise RefusedError(
                'say which task, "task": NAME: the task of a text cannot be found here (GET /v1/tasks lists all)'
            )
        text = joined(texts)
        (found,) = await finding[0].batcher.submit([Item(Sought(text), "sought", len(text))], self._seconds(None))
        if isinstance(found, Exception):
            raise found
        scores = {name: float(score) for name, score in found.candidates}
        if found.name is None or found.name not in self.table.tasks:
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
        tasks = [self.table.task(name) for name in names]
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
        task = self.table.task(name)
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
        task = self.table.task(name)
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
        loop, used = asyncio.get_running_loop(), self.table.used_by(task)
        began = loop.time()
        with self.table.waiting_for(task):
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

    def _check_rows(self, rows: Sequence[Row]) -> None:
        if len(rows) > self.limits.max_rows:
            raise TooLongError(
                f"{len(rows)} rows, and a request may have {self.limits.max_rows}; ask with fewer at a time"
            )

    def _seconds(self, deadline_ms: float | None) -> float:
        most = self.limits.deadline_ms
        return min(most, most if deadline_ms is None else deadline_ms) / 1000

    async def close(self) -> None:
        """Answer what waits, take no more, and end the threads."""
        await asyncio.gather(*(used.batcher.close() for used in self.table.used))
        self._encoding.shutdown()


def _as_dict(found: Any) -> dict[str, Any]:
    if isinstance(found, Prediction):
        return found.to_dict()
    return {"error": str(found if isinstance(found, GraftworkError) else _broken(found))}


def _broken(error: Exception) -> ServingError:
    """The error of a fault of the server's, without its inside, which is logged."""
    _LOG.error("a row could not be computed", exc_info=error)
    broken = ServingError(f"the row could not be computed ({type(error).__name__}); the server's log says more")
    broken.status = 500
    return broken
