"""The page at ``/``, on which a task can be tried: a template, a script and a style of the package, nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader

from graftwork.serving.service import Service

# Scripts and styles of this server alone, no frames, no forms that leave it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def add_page(app: FastAPI, service: Service) -> None:
    """Give an application the page to try its tasks."""
    pages = Environment(
        loader=PackageLoader("graftwork", "serving"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    assets = files("graftwork") / "serving" / "assets"

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        names = list(service.table.tasks)
        return HTMLResponse(pages.get_template("templates/page.html").render(tasks=names), headers=_HEADERS)

    @app.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        return Response((assets / "page.js").read_bytes(), media_type="text/javascript", headers=_HEADERS)

    @app.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return Response((assets / "page.css").read_bytes(), media_type="text/css", headers=_HEADERS)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(status_code=204, headers=_HEADERS)
