"""The routes: typed requests in, JSON out; whatever is refused is an object with ``error``."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from graftwork.errors import GraftworkError, ServingError
from graftwork.serving.base import ServedTask
from graftwork.serving.guard import Guard
from graftwork.serving.messages import (
    AttentionAnswer,
    AttentionRequest,
    PredictAnswer,
    PredictRequest,
    Refusal,
    TaskAnswer,
    TaskRequest,
)
from graftwork.serving.page import add_page
from graftwork.serving.refusals import ForbiddenError, RefusedError, UnauthorizedError, UnknownTaskError
from graftwork.serving.service import Row, Service

T = TypeVar("T")
_REFUSED: dict[int | str, dict[str, Any]] = {
    422: {"model": Refusal, "description": "The request cannot be answered as it is."},
    404: {"model": Refusal, "description": "No task of that name; `near` has names that are spelt alike."},
    413: {"model": Refusal, "description": "The request, or a text in it, is too long."},
    429: {"model": Refusal, "description": "The queue is full."},
    504: {"model": Refusal, "description": "The deadline is over."},
}


UNCHANGED = "tasks cannot be changed while the server runs; start it with --admin-token and --store"


def make_app(service: Service, *, admin_token: str | None = None, unchanged: str = UNCHANGED) -> FastAPI:
    """Return the application of a service, which is closed when the application ends.

    Args:
        service: What is served.
        admin_token: The token of those who may add and remove tasks; without it nobody may.
        unchanged: What is answered where nobody may.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    # the pages of documentation that FastAPI makes load their scripts from elsewhere
    app = FastAPI(title="graftwork serve", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, max_bytes=service.limits.max_bytes, count=service.metrics.request)
    _add_refusals(app)
    _add_answers(app, service)
    _add_changes(app, service, admin_token, unchanged)
    add_page(app, service)
    return app


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", response_model=PredictAnswer, responses=_REFUSED)
    async def predict(asked: PredictRequest, request: Request) -> Response:
        """Predict rows by a task, by several, or by the one that is found for the texts."""
        scores: dict[str, float] = {}
        if asked.task is None and asked.tasks is None:
            if asked.texts is None and service.only_task is None:
                raise RefusedError('say which task, "task": NAME; to have it found, give texts instead of rows')
            found, scores = await _while_connected(request, service.sought(asked.texts or []))
            names = [found]
        else:
            names = asked.tasks or [str(asked.task)]
        rows = asked.rows or [_typed(service, names, asked.texts or [])]
        if asked.stream:
            return await _streamed(service, names[0], rows[0], asked, request)
        answers = service.predict(names, rows, cut=asked.cut, deadline_ms=asked.deadline_ms)
        predictions = await _while_connected(request, answers)
        about = {"task": names[0]} if asked.tasks is None else {}
        return JSONResponse({**about, "predictions": predictions, **({"scores": scores} if scores else {})})

    @app.post("/v1/attention", response_model=AttentionAnswer, responses=_REFUSED)
    async def attention(asked: AttentionRequest, request: Request) -> Response:
        """Return which adapters the fusion of a task looks at, token by token."""
        row = asked.row if asked.row is not None else _typed(service, [asked.task], asked.texts or [])
        return JSONResponse(await _while_connected(request, service.look(asked.task, row)))

    @app.get("/v1/tasks", response_model=list[TaskAnswer])
    async def tasks() -> list[TaskAnswer]:
        """List the tasks."""
        return [described(task) for task in service.table.tasks.values()]

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Say that the server answers."""
        return {"status": "ok", "tasks": len(service.table.tasks)}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counts and times for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_changes(app: FastAPI, service: Service, admin_token: str | None, unchanged: str) -> None:
    def allowed(request: Request) -> None:
        if admin_token is None or service.table.store is None:
            raise ForbiddenError(unchanged)
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {admin_token}".encode()):
            raise UnauthorizedError("give the server's admin token: Authorization: Bearer TOKEN")

    changes: dict[str, Any] = {
        "dependencies": [Depends(allowed)],
        "responses": {**_REFUSED, 401: {"model": Refusal}, 403: {"model": Refusal}},
    }

    @app.put("/v1/tasks/{name}", response_model=TaskAnswer, **changes)
    async def put(name: str, asked: TaskRequest, response: Response) -> TaskAnswer:
        """Add a task whose adapter is in the store, or replace it."""
        task, replaced = await service.table.add(name, asked.folder, base=asked.base, task=asked.task)
        response.status_code = 200 if replaced else 201
        return described(task)

    @app.delete("/v1/tasks/{name}", status_code=204, response_class=Response, **changes)
    async def delete(name: str) -> None:
        """Remove a task."""
        await service.table.remove(name)


def _add_refusals(app: FastAPI) -> None:
    @app.exception_handler(GraftworkError)
    async def refused(_: Request, error: GraftworkError) -> JSONResponse:
        status = error.status if isinstance(error, ServingError) else 422
        near = {"near": error.near} if isinstance(error, UnknownTaskError) else {}
        headers = {429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}, 401: {"WWW-Authenticate": "Bearer"}}.get(
            status
        )
        return JSONResponse({"error": str(error), **near}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str))
        message = str(first["msg"]).removeprefix("Value error, ")
        return JSONResponse({"error": f"{where}: {message}" if where else message}, 422)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"{request.method} {request.url.path:.200}: {error.detail}"}, error.status_code)


def described(task: ServedTask) -> TaskAnswer:
    """Return what is told of a task."""
    kind, block = task.kind, task.fusion
    return TaskAnswer(
        name=task.name,
        kind=kind.name,
        columns=list(type(kind).columns(kind.spec, train=False)),
        pair=kind.spec.pair if "pair" in kind.options else None,
        labels=list(kind.labels),
        writes=kind.generates,
        fusion=None if block is None else [str(child) for child in block.children],
        mixed=task.mixes,
        base=task.base.name,
        source=task.source,
    )


def _typed(service: Service, names: list[str], texts: list[str]) -> dict[str, Any]:
    """The row of some typed texts, with the columns of all tasks."""
    row: dict[str, Any] = {}
    for name in names:
        row.update(service.table.task(name).kind.typed(texts))
    return row


async def _while_connected(request: Request, answer: Awaitable[T]) -> T:
    """Return an answer; where the client leaves before it is there it is given up."""
    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise RefusedError("the client has gone")
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _streamed(service: Service, name: str, row: Row, asked: PredictRequest, request: Request) -> Response:
    """An answer that is sent while it is written: server-sent events where the client asks for them, else lines of JSON."""
    pieces = service.stream(name, row, deadline_ms=asked.deadline_ms)
    first = await anext(pieces)  # what is refused is refused with its status
    events = "text/event-stream" in request.headers.get("accept", "")

    async def lines() -> AsyncIterator[str]:
        try:
            piece: dict[str, Any] | None = first
            while piece is not None:
                text = json.dumps(piece, ensure_ascii=False)
                yield f"data: {text}\n\n" if events else f"{text}\n"
                piece = await anext(pieces, None)
        except GraftworkError as error:  # the status has been sent
            text = json.dumps({"error": str(error)}, ensure_ascii=False)
            yield f"data: {text}\n\n" if events else f"{text}\n"
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator

    media = "text/event-stream" if events else "application/x-ndjson"
    return StreamingResponse(lines(), media_type=media, headers={"Cache-Control": "no-store"})
