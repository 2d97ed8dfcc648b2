"""From folders to a server that listens: what is served is read, then one process answers until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import ConfigError, GraftworkError
from graftwork.experiments.running.folder import recipe_of
from graftwork.inference.predictor import only_task
from graftwork.inference.task_routes import MARGIN
from graftwork.serving.base import Base, ServedTask
from graftwork.serving.service import Limits, Service
from graftwork.serving.sources import adapter_folders, is_run, read_base, read_run, saved_task
from graftwork.serving.store import Store
from graftwork.serving.table import Table


@dataclasses.dataclass(frozen=True)
class Sources:
    """What is served, and how it is read.

    Attributes:
        folders: Folders of runs, of saved adapters, or of many saved adapters.
        base: The base of the saved adapters; by default that of the one run.
        store: The folder that tasks are added from while the server runs.
        seed: The seed of the units of runs; by default the first that is done.
        root: The folder that recipes' paths are relative to; by default where each recipe was.
        margin: By how much the best task has to lead where the task of a text is sought.
        max_length: The most tokens of a text, for saved adapters on a base of their own.
        max_resident: How many saved adapters of a base are in memory at a time, at most; by default all are.
    """

    folders: Sequence[Path]
    base: str | None = None
    store: Path | None = None
    seed: int | None = None
    root: Path | None = None
    margin: float = MARGIN
    max_length: int | None = None
    max_resident: int | None = None


def read_sources(sources: Sources) -> tuple[list[Base], list[ServedTask], str | None]:
    """Return the bases and the tasks, ready to be served, and the task of a request that names none, where there is one.

    Raises:
        GraftworkError: If something cannot be served, or two tasks have one name.
    """
    runs = [folder for folder in sources.folders if is_run(folder)]
    saved = [adapter for folder in sources.folders if folder not in runs for adapter in adapter_folders(folder)]
    bases: list[Base] = []
    tasks: list[ServedTask] = []
    for run in runs:
        base, of_run = read_run(
            run, seed=sources.seed, root=sources.root, margin=sources.margin, max_resident=sources.max_resident
        )
        bases.append(base)
        tasks += of_run
    if sources.base is not None:
        bases.append(read_base(sources.base, saved, sources.max_length, sources.root or Path(), sources.max_resident))
    elif (saved or not runs) and len(bases) != 1:
        raise ConfigError(
            "say which base the saved adapters are for: --base MODEL, a folder, an installed package or a name on the Hub; with "
            "one run it is that run's"
        )
    if len({base.name for base in bases}) < len(bases):  # who adds a task has to name one of them
        raise ConfigError(f"two bases have one name ({', '.join(base.name for base in bases)}); rename a folder")
    tasks += [saved_task(folder.name, folder, bases[-1]) for folder in saved]
    names = [task.name for task in tasks]
    twice = next((task for task in tasks if names.count(task.name) > 1), None)
    if twice is not None:
        where = " and ".join(str(task.folder or task.source) for task in tasks if task.name == twice.name)
        raise ConfigError(
            f"two tasks are called {twice.name!r} ({where}); serve one of them elsewhere, or rename its folder"
        )
    for task in tasks:
        task.base.admit(task)
    default = only_task(recipe_of(runs[0])) if len(runs) == 1 and not saved else None
    return bases, tasks, default


async def restored(table: Table) -> None:
    """Serve again what was added to a server that has ended; what cannot be is told in a warning."""
    for name, kept in (table.store.tasks if table.store is not None else {}).items():
        if kept is None:
            table.tasks.pop(name, None)
            continue
        try:
            await table.add(name, kept.folder, base=kept.base, task=kept.task, keep=False)
        except GraftworkError as error:
            warnings.warn(
                f"the task {name!r}, which was added to the server before, is not served: {error}", stacklevel=2
            )


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 takes one that is free.

    Raises:
        ConfigError: If the address is taken or is none.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{host}:{port} cannot be listened on ({error}); give another --host or --port") from error
    return found


def serve(
    sources: Sources,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    limits: Limits | None = None,
    admin_token: str | None = None,
    ready: Callable[[str], Any] = print,
) -> None:
    """Serve until SIGINT or SIGTERM, after which what has been asked is answered.

    Args:
        sources: What is served.
        host: The address.
        port: The port; 0 takes one that is free.
        limits: What is allowed.
        admin_token: The token of those who may add and remove tasks; without it nobody may.
        ready: Called with the server's address when it listens.

    Raises:
        GraftworkError: If something cannot be served, the address cannot be listened on, or the extra is not installed.
    """
    try:
        import uvicorn

        from graftwork.serving.app import make_app
    except ImportError as error:
        raise ConfigError(f"graftwork serve needs {error.name}: pip install 'graftwork[serve]'") from error
    if admin_token is not None and sources.store is None:
        raise ConfigError("--admin-token lets tasks be added from a folder; say which: --store FOLDER")
    where = listening(host, port)
    with contextlib.closing(where):
        store = None if sources.store is None else Store(sources.store)
        bases, tasks, default = read_sources(sources)

        async def run() -> None:
            service = Service(bases, tasks, limits, store=store, default=default)
            await restored(service.table)
            app = make_app(service, admin_token=admin_token)
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, timeout_graceful_shutdown=30, server_header=False
            )
            where.listen(config.backlog)  # who comes from now on waits for a moment, and is not refused
            address = f"[{host}]" if ":" in host else host
            ready(f"http://{address}:{where.getsockname()[1]}")
            await uvicorn.Server(config).serve(sockets=[where])

        asyncio.run(run())
