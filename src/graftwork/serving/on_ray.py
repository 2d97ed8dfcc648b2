"""The same server on Ray Serve: replicas with a base each, and a door that sends a task's requests to where its adapter is."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from graftwork.errors import ConfigError
from graftwork.experiments.launching.on_ray import connect
from graftwork.serving.app import make_app
from graftwork.serving.base import ServedTask
from graftwork.serving.server import Sources, listening, read_sources
from graftwork.serving.service import Limits, Service

NAME = "graftwork"
_ASGI = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers")
UNCHANGED = "on Ray tasks cannot be changed while the server runs; end it and serve the folders that there shall be"


class Replica:
    """The application with a base and adapters of its own, in a process of its own.

    Args:
        sources: What is served.
        limits: What is allowed.
    """

    def __init__(self, sources: Sources, limits: Limits) -> None:
        from ray import serve

        async def held(task: str) -> str:
            return task  # the base reads the adapter where it computes, and its catalogue is as long as this list

        most = sources.max_resident or -1
        bases, tasks, default = read_sources(sources)
        hold = serve.multiplexed(max_num_models_per_replica=most)(held)
        self.app = make_app(_Held(hold, bases, tasks, limits, default=default), unchanged=UNCHANGED)
        self.name = serve.get_replica_context().replica_id.unique_id.encode()

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[MutableMapping[str, Any]]:
        """Yield the messages of ASGI that answer a request; ``x-replica`` in its headers names the replica."""
        messages: asyncio.Queue[MutableMapping[str, Any] | None] = asyncio.Queue()
        asked = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> MutableMapping[str, Any]:
            for message in asked:
                return message
            return await asyncio.Future()  # where the client leaves this request is cancelled

        answering = asyncio.ensure_future(self.app(scope, receive, messages.put))
        answering.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            while (message := await messages.get()) is not None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-replica", self.name)]
                yield message
            await answering  # an error of the application is Ray's to tell
        finally:
            answering.cancel()


class _Held(Service):
    """A service that tells Ray which tasks were asked for here."""

    def __init__(self, hold: Callable[[str], Awaitable[str]], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._hold = hold

    async def _of_task(self, task: ServedTask, *arguments: Any, **options: Any) -> list[Any]:
        await self._hold(task.name)
        return await super()._of_task(task, *arguments, **options)


def _door() -> type:
    """The class of the door. It is made in a function, so that Ray sends its code and its process needs no torch."""

    class Door:
        def __init__(self, replicas: Any, tasks: Sequence[str], max_bytes: int, keys: Sequence[str]) -> None:
            self.replicas, self.tasks, self.max_bytes, self.keys = replicas, frozenset(tasks), max_bytes, keys

        async def __call__(self, request: Any) -> Any:
            from ray.exceptions import RayActorError
            from starlette.responses import StreamingResponse

            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > self.max_bytes:  # the replica refuses it
                    break
            scope = {key: request.scope[key] for key in self.keys if key in request.scope}
            handle = self.replicas.options(stream=True, multiplexed_model_id=self.task(bytes(body)))
            try:
                messages = handle.answer.remote(scope, bytes(body))
                start = await messages.__anext__()
            except RayActorError:  # its process has ended; nothing has been sent yet, and another one answers
                messages = handle.answer.remote(scope, bytes(body))
                start = await messages.__anext__()

            async def parts() -> Any:
                async for message in messages:
                    yield message.get("body", b"")

            answer = StreamingResponse(parts(), start["status"])
            answer.raw_headers = list(start["headers"])
            return answer

        def task(self, body: bytes) -> str:
            """The task that a request names, if there is one of that name: others are refused by any replica."""
            import json

            try:
                asked = json.loads(body)
                named = asked.get("task") or asked["tasks"][0]
                return named if named in self.tasks else ""
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
                return ""

    return Door


@contextlib.contextmanager
def deployed(
    sources: Sources,
    *,
    address: str = "",
    replicas: int = 1,
    host: str = "127.0.0.1",
    port: int = 8080,
    limits: Limits | None = None,
) -> Iterator[str]:
    """Serve on a cluster while the context lasts; gives the server's address.

    Args:
        sources: What is served. Every machine of the cluster has to see its folders at the same places.
        address: The cluster's address; without one, this machine.
        replicas: How many processes have the base.
        host: The address that the head of the cluster listens on. Where Serve runs there, its own address and port hold.
        port: The port; 0 takes one that is free on this machine.
        limits: What is allowed; the queue is that of one replica.

    Raises:
        GraftworkError: If something cannot be served, or there is no cluster at the address.
    """
    limits = limits or Limits()
    if sources.store is not None:
        raise ConfigError(f"--store: {UNCHANGED}")
    sources = dataclasses.replace(
        sources,
        folders=[folder.absolute() for folder in sources.folders],
        base=str(Path(sources.base).absolute()) if sources.base and Path(sources.base).is_dir() else sources.base,
        root=None if sources.root is None else sources.root.absolute(),
    )
    tasks = [task.name for task in read_sources(sources)[1]]  # refused here, and not in a process elsewhere
    if not address:
        with listening(host, port) as free:
            port = free.getsockname()[1]
    elif not port:
        raise ConfigError("--port is 0; name a port that is free on the head of the cluster")
    ray = connect(address, replicas)
    from ray import serve

    # more requests than the queue has rows: it is the application that refuses
    most = 2 * limits.max_queue
    replica = serve.deployment(num_replicas=replicas, max_ongoing_requests=most)(Replica)
    nothing = {"num_cpus": 0}
    door = serve.deployment(max_ongoing_requests=most * replicas, ray_actor_options=nothing)(_door())
    app = door.bind(replica.bind(sources, limits), tasks, limits.max_bytes, _ASGI)
    patience = limits.deadline_ms / 1000 + 10  # in it a body has to arrive and to be answered
    try:
        try:
            serve.start("HeadOnly", {"host": host, "port": port, "request_timeout_s": patience})
            serve.run(app, name=NAME, route_prefix="/")
        except RuntimeError as error:
            raise ConfigError(f"Ray does not serve it: {str(error).strip().splitlines()[-1]}") from error
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        if address:
            serve.delete(NAME)
        else:
            serve.shutdown()
        ray.shutdown()


def serve_on_ray(sources: Sources, *, ready: Callable[[str], Any] = print, **options: Any) -> None:
    """Serve on a cluster of Ray until SIGINT or SIGTERM; options as those of `deployed`.

    Raises:
        GraftworkError: As `deployed`.
    """
    with deployed(sources, **options) as address:
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        ready(address)
        ended.wait()
