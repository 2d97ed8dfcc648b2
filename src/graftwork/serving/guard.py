"""What stands before the routes: a request's body is read whole, within bounds of size and time, and every request is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """Middleware that refuses long and slow bodies before anything reads them, and counts requests.

    Args:
        app: The application.
        max_bytes: The most bytes of a body.
        count: Called with the route, the status and the seconds of each request.

    Attributes:
        patience: The seconds within which a body has to arrive.
    """

    patience = 10.0

    def __init__(self, app: Application, max_bytes: int, count: Callable[[str, int, float], None]) -> None:
        self.app, self.max_bytes, self.count = app, max_bytes, count

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 499  # what nginx writes of a client that has left

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._guarded(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.count(route, status, time.perf_counter() - began)

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._body(scope, receive), self.patience)
        except asyncio.TimeoutError:
            await _refuse(send, 408, f"the body has not arrived within {self.patience:g} s; send it at once")
            return
        except _TooLongError as error:
            await _refuse(send, 413, str(error))
            return
        given = False

        async def replayed() -> Message:
            nonlocal given
            if given or body is None:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        if body is not None:
            await self.app(scope, replayed, send)

    async def _body(self, scope: Message, receive: Receive) -> bytes | None:
        """The body; ``None`` where the client left."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            raise self._too_long(f"{int(declared):,d} bytes")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_bytes:
                raise self._too_long("more bytes")
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_long(self, found: str) -> _TooLongError:
        return _TooLongError(
            f"the body has {found}, and a request may have {self.max_bytes:,d}; ask with fewer rows at a time"
        )


class _TooLongError(Exception):
    """A body is too long; answered here."""


async def _refuse(send: Send, status: int, why: str) -> None:
    body = json.dumps({"error": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
