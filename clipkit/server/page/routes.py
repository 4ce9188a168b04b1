"""The routes of the web page: the page itself and its static files."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates
from starlette.types import Scope

_FOLDER = Path(__file__).parent
STATIC = _FOLDER / "static"
# Python's own table can be overridden by the system's, which on Windows may serve modules as text/plain.
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}


def page_routes() -> list[BaseRoute]:
    """Return the routes of the page and of its static files."""
    return [
        Route("/", _page, methods=["GET"], name="page"),
        Mount(f"/static/{static_digest()}", _Static(directory=STATIC), name="static"),
    ]


@cache
def static_digest() -> str:
    """Return a digest of all static files: part of their addresses, so that browsers may keep them for ever."""
    digest = hashlib.sha256()
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        digest.update(path.relative_to(STATIC).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _templates() -> Jinja2Templates:
    return Jinja2Templates(directory=_FOLDER / "templates")


async def _page(request: Request) -> Response:
    """Answer the page, which is always the same: its state is in the address, and the modules read it there."""
    return _templates().TemplateResponse(request, "page.html", headers={"Cache-Control": "no-cache"})


class _Static(StaticFiles):
    """Static files with their media types and with leave to be kept."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
            if media_type := _TYPES.get(Path(path).suffix):
                response.headers["Content-Type"] = media_type
        return response
