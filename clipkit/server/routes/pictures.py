"""The pictures of the library, and the generated ones: lists, facts, thumbnails, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.catalog.browsing import Facets, Order, facets, find_images, list_images
from clipkit.catalog.filters import Filters
from clipkit.catalog.generated import Generated, list_generated
from clipkit.catalog.recorded_paths import recorded_paths
from clipkit.errors import UnreadableImage
from clipkit.images.hashing import content_hash
from clipkit.library import Library
from clipkit.marks.provenance import Provenance
from clipkit.marks.reading import verify
from clipkit.marks.xmp import packet
from clipkit.server.answers import generated_json, image_json
from clipkit.server.originals import cache_headers, is_known, original, picture
from clipkit.server.parameters import MAX_LIMIT, Parameters, read_id
from clipkit.server.problems import JsonResponse, NotFound
from clipkit.server.routes.searching import read_filters
from clipkit.server.services import services_of
from clipkit.server.thumbnails import SIZES

_FOREVER = 2**62


@dataclass(frozen=True)
class _File:
    """A file to serve: its content hash, and the provenance if it is a generated picture."""

    path: Path
    hash: str
    provenance: Provenance | None = None


_Find = Callable[[Library, int], _File]


async def images(request: Request) -> Response:
    """List the library's pictures in order of time or path."""
    parameters = Parameters(request.query_params)
    offset = parameters.integer("offset", 0, 0, _FOREVER)
    limit = parameters.integer("limit", 100, 1, MAX_LIMIT)
    order = cast(Order, parameters.choice("order", "taken", "taken", "path"))
    filters = read_filters(parameters)
    services = services_of(request)

    def run() -> dict:
        with services.library_pool.library() as library:
            records, total = list_images(
                library.catalog, _resolved(library, filters), order=order, offset=offset, limit=limit
            )
        more = offset + len(records) < total and len(records) > 0
        return {
            "images": [image_json(record) for record in records],
            "total": total,
            "offset": offset,
            "limit": limit,
            "next_offset": offset + len(records) if more else None,
        }

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def image(request: Request) -> Response:
    """Return what the catalog knows about one picture."""
    services, number = services_of(request), read_id(request.path_params["id"])

    def run() -> dict:
        with services.library_pool.library() as library:
            record = find_images(library.catalog, [number]).get(number)
        if record is None or not record.shown:
            raise NotFound(f"there is no picture {number} in the library")
        return image_json(record)

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def facet_counts(request: Request) -> Response:
    """Count the pictures by month, camera and folder."""
    filters, services = read_filters(Parameters(request.query_params)), services_of(request)

    def run() -> dict:
        def compute() -> Facets:
            with services.library_pool.library() as library:
                return facets(library.catalog, _resolved(library, filters))

        found = services.library_pool.cached(("facets", filters), compute)
        return {
            "months": [{"month": month, "count": count} for month, count in found.months],
            "undated": found.undated,
            "located": found.located,
            "cameras": [{"camera": camera, "count": count} for camera, count in found.cameras],
            "folders": [{"path": str(folder), "count": count} for folder, count in found.folders],
        }

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def generated(request: Request) -> Response:
    """List the generated pictures, newest first."""
    parameters, services = Parameters(request.query_params), services_of(request)
    offset = parameters.integer("offset", 0, 0, _FOREVER)
    limit = parameters.integer("limit", 100, 1, MAX_LIMIT)

    def run() -> dict:
        with services.library_pool.library() as library:
            pictures = list(list_generated(library.catalog))[::-1]
        page = pictures[offset : offset + limit]
        more = offset + len(page) < len(pictures) and len(page) > 0
        return {
            "generated": [generated_json(one) for one in page],
            "total": len(pictures),
            "offset": offset,
            "limit": limit,
            "next_offset": offset + len(page) if more else None,
        }

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def one_generated(request: Request) -> Response:
    """Return the record of one generated picture."""
    services, number = services_of(request), read_id(request.path_params["id"])

    def run() -> dict:
        with services.library_pool.library() as library:
            return generated_json(_find_generated(library, number))

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def image_thumbnail(request: Request) -> Response:
    """Return a picture of the library as WebP."""
    return await _thumbnail(request, _image_file)


async def generated_thumbnail(request: Request) -> Response:
    """Return a generated picture as WebP, marked as generated."""
    return await _thumbnail(request, _generated_file)


async def image_original(request: Request) -> Response:
    """Return the file of a picture of the library."""
    return await _original(request, _image_file)


async def generated_original(request: Request) -> Response:
    """Return the file of a generated picture."""
    return await _original(request, _generated_file)


async def _thumbnail(request: Request, find: _Find) -> Response:
    parameters, services = Parameters(request.query_params), services_of(request)
    size = int(parameters.choice("size", "320", *map(str, SIZES)))
    file = await _found(request, find)
    tag = f"{file.hash}-{size}"
    if is_known(request, tag):
        return Response(status_code=304, headers=cache_headers(request, tag))
    services.used_decoders()
    xmp = packet(file.provenance) if file.provenance else b""
    data = await services.thumbnailing.run(request, lambda: services.thumbnails.get(file.path, file.hash, size, xmp))
    return picture(request, data, tag)


async def _original(request: Request, find: _Find) -> Response:
    file = await _found(request, find)
    return await services_of(request).catalog.run(request, lambda: original(request, file.path, file.hash))


async def _found(request: Request, find: _Find) -> _File:
    services, number = services_of(request), read_id(request.path_params["id"])

    def run() -> _File:
        with services.library_pool.library() as library:
            return find(library, number)

    return await services.catalog.run(request, run)


def _image_file(library: Library, number: int) -> _File:
    record = find_images(library.catalog, [number]).get(number)
    if record is None or not record.shown:
        raise NotFound(f"there is no picture {number} in the library")
    provenance = None
    if record.generated:  # its thumbnail says so too
        try:
            provenance = verify(record.path).provenance
        except UnreadableImage:
            provenance = None
        provenance = provenance or Provenance(record.description or record.title or "", "unknown", 0)
    return _File(record.path, record.hash, provenance)


def _generated_file(library: Library, number: int) -> _File:
    found = _find_generated(library, number)
    provenance = Provenance(str(found.query.get("text") or ""), found.decoder, found.seed, found.steps, found.guidance)
    try:
        return _File(found.path, content_hash(found.path), provenance)
    except UnreadableImage as error:
        raise NotFound(f"generated picture {number} cannot be read: {error.reason}") from error


def _find_generated(library: Library, number: int) -> Generated:
    for one in list_generated(library.catalog):
        if one.id == number:
            return one
    raise NotFound(f"there is no generated picture {number}")


def _resolved(library: Library, filters: Filters) -> Filters:
    """Return the filters with folders as the library records them. Raises BadQuery."""
    return replace(filters, under=tuple(p for path in filters.under for p in recorded_paths(library.catalog, path)))


routes = [
    Route("/api/images", images),
    Route("/api/images/{id}", image),
    Route("/api/images/{id}/thumbnail", image_thumbnail),
    Route("/api/images/{id}/original", image_original),
    Route("/api/generated", generated),
    Route("/api/generated/{id}", one_generated),
    Route("/api/generated/{id}/thumbnail", generated_thumbnail),
    Route("/api/generated/{id}/original", generated_original),
    Route("/api/facets", facet_counts),
]
