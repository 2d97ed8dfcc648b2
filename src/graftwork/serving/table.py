"""The tasks that are served, each on its base: looked up, added, replaced and removed while requests are answered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from graftwork.serving.base import Base, ServedTask
from graftwork.serving.batching import Batcher
from graftwork.serving.encoding import Encoder
from graftwork.serving.refusals import ForbiddenError, RefusedError, UnknownTaskError
from graftwork.serving.sources import saved_task
from graftwork.serving.store import Kept, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclasses.dataclass(eq=False)
class Used:
    """A base with its queue and its encoder."""

    base: Base
    batcher: Batcher
    encoder: Encoder


class Table:
    """The tasks that are served, by name; changed by one request at a time.

    Args:
        bases: The bases.
        tasks: The tasks that are served from the start, each ready (`Base.admit`).
        batcher: Makes the queue of a base.
        store: Where tasks are added from; without one none are added.

    Attributes:
        tasks: The tasks.
        used: The bases.
    """

    def __init__(
        self,
        bases: Sequence[Base],
        tasks: Iterable[ServedTask],
        batcher: Callable[[Base], Batcher],
        store: Store | None = None,
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.used = [Used(base, batcher(base), Encoder(base)) for base in bases]
        self._given = frozenset(self.tasks)  # by runs and folders, which a server that starts again reads again
        self.store, self._changing, self._versions = store, asyncio.Lock(), 0

    def task(self, name: str) -> ServedTask:
        """Return a task.

        Raises:
            UnknownTaskError: If none of that name is served.
        """
        if name not in self.tasks:
            raise UnknownTaskError(name, self.tasks)
        return self.tasks[name]

    def used_by(self, task: ServedTask) -> Used:
        """Return the base of a task."""
        return next(used for used in self.used if used.base is task.base)

    @contextlib.contextmanager
    def waiting_for(self, task: ServedTask) -> Iterator[None]:
        """Keep the adapter of a task on the model, though the task may be removed meanwhile."""
        task.waiting += 1
        try:
            yield
        finally:
            task.waiting -= 1
            if task.removed and not task.waiting:
                self._drop(task)

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
            await (
                asyncio.to_thread(store.keep, name, None)
                if name in self._given
                else asyncio.to_thread(store.forget, name)
            )
            self.tasks = {other: task for other, task in self.tasks.items() if other != name}
            self._retire(old)

    def _retire(self, old: ServedTask | None) -> None:
        if old is not None:
            old.removed = True
            if not old.waiting:
                self._drop(old)

    def _drop(self, task: ServedTask) -> None:
        """Take a task's adapter off the model when the worker is free."""
        used = self.used_by(task)
        dropping = asyncio.ensure_future(used.batcher.change(lambda: task.base.drop(task)))
        dropping.add_done_callback(lambda done: done.cancelled() or done.exception())  # the server may be stopping

    def _require_store(self) -> Store:
        if self.store is None:
            raise ForbiddenError(
                "tasks cannot be changed while the server runs; start it with --admin-token and --store"
            )
        return self.store

    def _base(self, name: str | None) -> Used:
        named = {used.base.name: used for used in self.used}
        if name is None and len(named) == 1:
            return next(iter(named.values()))
        if name not in named:
            raise RefusedError(f"base is {name!r:.200}; there are several, say which: {', '.join(map(repr, named))}")
        return named[name]
