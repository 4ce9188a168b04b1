"""Jobs over HTTP: start indexing, follow the events of a job, cancel it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clipkit.errors import BadQuery, ClipkitError
from clipkit.images.file_access import why_absent
from clipkit.library import Library
from clipkit.server.body import read_body
from clipkit.server.picture_jobs import started
from clipkit.server.problems import JsonResponse, Problem
from clipkit.server.services import Services, services_of

_NO_STORE = {"Cache-Control": "no-store"}


async def index(request: Request) -> Response:
    """Start indexing folders, or all that the library knows."""
    services = services_of(request)
    body = await read_body(request)
    job: dict[str, Any] = {
        "kind": "index",
        "paths": body.texts("paths"),
        "exclude": body.texts("exclude"),
        "include_generated": body.flag("include_generated", None),
        "remove_missing": body.flag("remove_missing"),
        "model": body.text("model") or None,
        "device": services.settings.device,
    }
    body.check_all_known()

    def check() -> list[str]:
        with services.library_pool.library() as library:
            library.catalog.require_writable()
            return [os.fspath(_allowed(Path(path), library, services)) for path in job["paths"]]

    job["paths"] = await services.catalog.run(request, check)
    return started(services.jobs.start("index", job, lane="index"))


async def jobs(request: Request) -> Response:
    """List the jobs."""
    return JsonResponse({"jobs": [job.to_json() for job in services_of(request).jobs.all()]}, headers=_NO_STORE)


async def job(request: Request) -> Response:
    """Return the state of a job, or cancel it."""
    services = services_of(request)
    wanted = services.jobs.get(request.path_params["id"])
    if request.method == "DELETE":
        await services.jobs.cancel(wanted)
    return JsonResponse(wanted.to_json(), headers=_NO_STORE)


async def events(request: Request) -> Response:
    """Stream the events of a job (server-sent events), from the first, or after the one in Last-Event-ID."""
    wanted = services_of(request).jobs.get(request.path_params["id"])
    last = request.headers.get("last-event-id", "0")
    after = int(last) if last.isascii() and last.isdecimal() and len(last) < 10 else 0

    async def stream() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        async for event in wanted.follow(after):
            if event is None:
                yield ": still here\n\n"
            else:
                yield f"id: {event.number}\nevent: {event.name}\ndata: {json.dumps(event.data)}\n\n"

    headers = {**_NO_STORE, "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _allowed(path: Path, library: Library, services: Services) -> Path:
    """Return the absolute path if the client may index it. Raises ClipkitError, Problem 403."""
    try:
        given = Path(os.path.abspath(path.expanduser()))
    except (RuntimeError, ValueError):
        raise BadQuery(f"{str(path)[:80]!r} is not a path") from None
    if not services.settings.is_loopback:
        roots = [os.path.realpath(root) for root, _ in library.catalog.roots()]
        real = Path(os.path.realpath(given))
        if not any(real.is_relative_to(root) for root in roots):
            raise Problem(403, "folder-not-allowed", "clients of other machines can index only folders of the library")
    if absent := why_absent(given):
        raise ClipkitError(absent)
    return given


routes = [
    Route("/api/index", index, methods=["POST"]),
    Route("/api/jobs", jobs),
    Route("/api/jobs/{id}", job, methods=["GET", "DELETE"]),
    Route("/api/jobs/{id}/events", events),
]
