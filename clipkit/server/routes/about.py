"""About the server and its library: facts, and whether it is well."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.errors import ClipkitError
from clipkit.library import Library
from clipkit.server.metrics import Labels
from clipkit.server.openapi import description
from clipkit.server.problems import JsonResponse
from clipkit.server.services import services_of
from clipkit.version import __version__


async def info(request: Request) -> Response:
    """Return what the library holds, and what the server can do with it."""
    services = services_of(request)

    def run() -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            with services.library_pool.library() as library:
                return {
                    **library.info().to_json(),
                    "library": library.name,
                    "model": next(iter(library.catalog.spaces()), None),
                    "read_only": library.catalog.read_only,
                }

        facts = services.library_pool.cached("info", compute)
        with services.library_pool.library() as library:
            generation = _generation(library)
        settings = services.settings
        return {
            **facts,
            "version": __version__,
            "generation": generation,
            "limits": {
                "request_bytes": settings.max_request_bytes,
                "upload_pixels": settings.max_upload_pixels,
                "upload_seconds": settings.upload_seconds,
            },
            "jobs": services.jobs.active(),
            "may_index_any_folder": settings.is_loopback,
        }

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def metrics(request: Request) -> Response:
    """Return counts and times for Prometheus."""
    services = services_of(request)
    gates = {
        "search": services.search,
        "catalog": services.catalog,
        "pictures": services.pictures,
        "thumbnails": services.thumbnailing,
    }
    jobs = services.jobs
    series: dict[str, tuple[str, list[tuple[Labels, float]]]] = {
        "clipkit_waiting": (
            "Requests that wait, by kind of work.",
            [((("queue", n),), g.waiting) for n, g in gates.items()],
        ),
        "clipkit_running": ("Requests at work, by kind.", [((("queue", n),), g.running) for n, g in gates.items()]),
        "clipkit_jobs": ("Jobs by state.", [((("state", s),), n) for s, n in jobs.states().items()]),
        "clipkit_jobs_total": (
            "Jobs that ended, by kind and result.",
            [((("kind", kind), ("result", state)), n) for (kind, state), n in jobs.results.items()],
        ),
        "clipkit_pictures_made_total": (
            "Pictures that jobs made, by kind.",
            [((("kind", kind),), n) for kind, n in jobs.pictures.items() if n],
        ),
        "clipkit_models_loaded": ("Models that searches keep loaded.", [((), len(services.library_pool.searchers))]),
        "clipkit_start_time_seconds": ("When the server started.", [((), services.started)]),
    }
    text = services.metrics.text(series)
    return Response(text, media_type="text/plain; version=0.0.4", headers={"Cache-Control": "no-store"})


async def openapi(request: Request) -> Response:
    """Return the description of this API."""
    return JsonResponse(description())


async def health(request: Request) -> Response:
    """Say that the server answers."""
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


def _generation(library: Library) -> dict[str, Any]:
    """Return the decoder that would generate, and whether it can; asked often, so nothing heavy is imported."""
    from clipkit.generation.availability import decoder_for_spaces
    from clipkit.generation.decoder_files import on_disk

    try:
        entry = decoder_for_spaces(*library.catalog.spaces())
    except ClipkitError as error:
        return {"decoder": None, "available": False, "needs_gpu": False, "reason": str(error)}
    here = on_disk(entry)
    reason = ""
    if library.catalog.read_only:
        reason = "the library is read-only"
    elif not here:
        reason = f"the decoder {entry.id} is not on this machine; `clipkit decoders pull {entry.id}` downloads it"
    return {
        "decoder": entry.id,
        "available": not reason,
        "needs_gpu": bool(entry.memory_gb),
        "reason": reason,
    }


routes = [
    Route("/api/info", info),
    Route("/healthz", health),
    Route("/metrics", metrics),
    Route("/openapi.json", openapi),
]
