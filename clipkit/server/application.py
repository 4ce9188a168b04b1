"""The ASGI application over one library."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from clipkit.errors import ClipkitError
from clipkit.server import problems
from clipkit.server.limits import Limits
from clipkit.server.page.routes import page_routes
from clipkit.server.routes import about, generating, picture_operations, pictures, searching, working
from clipkit.server.security import Security
from clipkit.server.services import Services
from clipkit.server.settings import ServerSettings

_HANDLED = (problems.Problem, ClipkitError, sqlite3.Error, HTTPException, Exception)


def create_app(library: Path, *, settings: ServerSettings | None = None) -> Starlette:
    """Return the application for the library in a folder.

    `app.state.library_pool` lends out the library, `app.state.services` has everything else.

    Raises LibraryNotFound, LibraryDamaged.
    """
    settings = settings or ServerSettings()
    services = Services(library, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(services.let_go_of_idle())]
        tasks += [asyncio.create_task(lane.work()) for lane in services.jobs.lanes.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(services.close)

    routes: list[BaseRoute] = [*searching.routes, *pictures.routes]
    routes += [*generating.routes, *picture_operations.routes, *working.routes, *about.routes, *page_routes()]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(services.metrics.around),
            Middleware(Security, settings=settings),
            Middleware(Limits, settings=settings),
        ],
        exception_handlers={
            error: problems.handle
            for error in (problems.Problem, ClipkitError, sqlite3.Error, HTTPException, Exception)
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.services, app.state.library_pool, app.state.settings = services, services.library_pool, settings
    return app
