"""The pictures of the library, and the generated ones: lists, facts, thumbnails, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.catalog.browsing import Facets, Order, facets, list_images
from clipkit.catalog.filters import Filters
from clipkit.catalog.generated import list_generated
from clipkit.catalog.recorded_paths import recorded_paths
from clipkit.errors import UnreadableImage
from clipkit.images.hashing import content_hash
from clipkit.library import Library
from clipkit.marks.provenance import Provenance
from clipkit.marks.reading import verify
from clipkit.marks.source_type import COMPOSITE, TRAINED
from clipkit.marks.xmp import packet
from clipkit.searching.query import in_words
from clipkit.server.answers import generated_json, image_json
from clipkit.server.originals import cache_headers, is_known, original, picture
from clipkit.server.parameters import MAX_LIMIT, Parameters, read_id
from clipkit.server.problems import JsonResponse, NotFound
from clipkit.server.query_pictures import find_image, find_made
from clipkit.server.routes.searching import read_filters
from clipkit.server.services import services_of
from clipkit.server.thumbnails import SIZES

_FOREVER = 2**62


@dataclass(frozen=True)
class _File:
    """A file to serve: its content hash, and what returns the XMP packet of its thumbnails, empty for photos."""

    path: Path
    hash: str
    xmp: Callable[[], bytes] = bytes


_Find = Callable[[Library, int], _File]


async def images(request: Request) -> Response:
    """List the library's pictures in order of time or path."""
    parameters = Parameters(request.query_params)
    order = cast(Order, parameters.choice("order", "taken", "taken", "path"))
    filters = read_filters(parameters)

    def read(library: Library, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        records, total = list_images(
            library.catalog, _resolved(library, filters), order=order, offset=offset, limit=limit
        )
        return [image_json(record) for record in records], total

    return await _page(request, parameters, "images", read)


async def image(request: Request) -> Response:
    """Return what the catalog knows about one picture."""
    services, number = services_of(request), read_id(request.path_params["id"])

    def run() -> dict:
        with services.library_pool.library() as library:
            return image_json(find_image(library, number))

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

    def read(library: Library, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        made = list(list_generated(library.catalog))[::-1]
        return [generated_json(one, library.layout) for one in made[offset : offset + limit]], len(made)

    return await _page(request, Parameters(request.query_params), "generated", read)


async def one_generated(request: Request) -> Response:
    """Return the record of one generated picture."""
    services, number = services_of(request), read_id(request.path_params["id"])

    def run() -> dict:
        with services.library_pool.library() as library:
            return generated_json(find_made(library, number), library.layout)

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


async def _page(
    request: Request,
    parameters: Parameters,
    name: str,
    read: Callable[[Library, int, int], tuple[list[dict[str, Any]], int]],
) -> Response:
    """Answer with a page of a list, under its name; `read` returns the page from an offset, and the length of all."""
    offset = parameters.integer("offset", 0, 0, _FOREVER)
    limit = parameters.integer("limit", 100, 1, MAX_LIMIT)
    services = services_of(request)

    def run() -> dict[str, Any]:
        with services.library_pool.library() as library:
            found, total = read(library, offset, limit)
        more = offset + len(found) < total and len(found) > 0
        return {
            name: found,
            "total": total,
            "offset": offset,
            "limit": limit,
            "next_offset": offset + len(found) if more else None,
        }

    return JsonResponse(await services.catalog.run(request, run), headers={"Cache-Control": "no-store"})


async def _thumbnail(request: Request, find: _Find) -> Response:
    parameters, services = Parameters(request.query_params), services_of(request)
    size = int(parameters.choice("size", "320", *map(str, SIZES)))
    file = await _found(request, find)
    tag = f"{file.hash}-{size}"
    if is_known(request, tag):
        return Response(status_code=304, headers=cache_headers(request, tag))
    services.used_decoders()
    data = await services.thumbnailing.run(
        request, lambda: services.thumbnails.get(file.path, file.hash, size, file.xmp)
    )
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
    record = find_image(library, number)
    if not record.generated:
        return _File(record.path, record.hash)
    unknown = Provenance(record.description or record.title or "", "unknown", 0)
    return _File(record.path, record.hash, lambda: _marks(record.path, unknown))


def _generated_file(library: Library, number: int) -> _File:
    found = find_made(library, number)
    recorded = Provenance(
        query=in_words(found.query),
        model=found.decoder,
        seed=found.seed,
        steps=found.steps,
        guidance=found.guidance,
        operation=None if found.operation == "generate" else found.operation,
    )
    try:
        return _File(found.path, content_hash(found.path), lambda: _marks(found.path, recorded))
    except UnreadableImage as error:
        raise NotFound(f"generated picture {number} cannot be read: {error.reason}") from error


def _marks(path: Path, unmarked: Provenance) -> bytes:
    """Return the packet that says of a thumbnail what the marks of a file say; `unmarked`: if those say nothing."""
    try:
        marks = verify(path)
    except UnreadableImage:
        return packet(unmarked)
    return packet(marks.provenance or unmarked, COMPOSITE if marks.edited else TRAINED)


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
