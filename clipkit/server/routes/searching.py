"""Searching: by words, pictures and regions of pictures, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.catalog.filters import Filters
from clipkit.errors import BadQuery
from clipkit.searching.library_models import resolve_model
from clipkit.searching.query import Query, Words
from clipkit.server.answers import earlier_generated, search_answer
from clipkit.server.parameters import MAX_LIMIT, MAX_OFFSET, Parameters, PictureRef, Terms, read_id, read_terms
from clipkit.server.problems import JsonResponse
from clipkit.server.query_pictures import to_query, weights_of
from clipkit.server.services import Services, services_of
from clipkit.server.uploads import Upload

MAX_FILES = 8
"""Uploads in one request."""


@dataclass(frozen=True)
class Page:
    """What is asked of a search beside the query."""

    offset: int
    limit: int
    filters: Filters
    min_confidence: float | None
    model: str | None


async def search(request: Request) -> Response:
    """Answer GET with parameters, or POST with the same as a form and pictures."""
    services = services_of(request)
    uploads: list[Upload] = []
    avoided: list[Upload] = []
    parameters = Parameters(request.query_params)
    if request.method == "POST":
        async with request.form(max_files=MAX_FILES, max_fields=200, max_part_size=64 * 1024) as form:
            parameters = Parameters(request.query_params, form)
            uploads = await keep_uploads(request, services, form, "picture")
            avoided = await keep_uploads(request, services, form, "not_picture")
    terms = read_terms(parameters, [u.id for u in uploads], [u.id for u in avoided])
    answer = await answer_search(request, services, terms, read_page(parameters), [*uploads, *avoided])
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


async def similar(request: Request) -> Response:
    """Answer with the pictures nearest to one of the library, itself left out."""
    parameters = Parameters(request.query_params)
    number = read_id(request.path_params["id"])
    terms = Terms(like=[(PictureRef("image", str(number), str(number)), 1.0)])
    page = read_page(parameters)
    answer = await answer_search(request, services_of(request), terms, replace(page, limit=page.limit + 1))
    hits = [hit for hit in answer["hits"] if hit["id"] != number][: page.limit]
    more = len(answer["hits"]) > page.limit
    answer |= {"hits": hits, "limit": page.limit, "next_offset": page.offset + page.limit if more else None}
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


async def upload(request: Request) -> Response:
    """Keep pictures for searches that name them."""
    services = services_of(request)
    async with request.form(max_files=MAX_FILES, max_fields=10, max_part_size=64 * 1024) as form:
        kept = await keep_uploads(request, services, form, "picture")
    if not kept:
        raise BadQuery("send one or more files as `picture`, in a multipart form")
    return JsonResponse({"uploads": [one.to_json() for one in kept]}, 201)


async def answer_search(
    request: Request, services: Services, terms: Terms, page: Page, uploads: Sequence[Upload] = ()
) -> dict[str, Any]:
    """Load the query's pictures, search, and return the answer."""
    query: Query | None = None
    if terms.like or any(isinstance(value, PictureRef) for value, _ in terms.avoid):
        services.used_decoders()

        def load() -> Query:
            with services.library_pool.library() as library:
                model = resolve_model(library.catalog, library.layout, page.model)
                searcher = library.searchers.get(library.catalog, model, services.settings.device)
                return to_query(terms, library, services.uploads, searcher.encoder)

        query = await services.pictures.run(request, load)

    def run() -> dict[str, Any]:
        with services.library_pool.library() as library:
            wanted = query or text_query(terms)
            result = library.search(
                wanted,
                page.limit,
                offset=page.offset,
                filters=page.filters or None,
                min_confidence=page.min_confidence,
                model=page.model,
                device=services.settings.device,
            )
            if picture := earlier_generated(library, result, terms):
                result = replace(result, generated=(picture,))
            kept = [one.to_json() for one in uploads]
            return search_answer(result, library, terms, offset=page.offset, limit=page.limit, uploads=kept)

    return await services.search.run(request, run)


def text_query(terms: Terms) -> Query:
    """Return the query of terms without pictures. Raises BadQuery."""
    (text, *_), *more = terms.texts or [("", 1.0)]
    avoided = tuple(Words(value) for value, _ in terms.avoid if isinstance(value, str))
    return Query(text=text, also=tuple(also for also, _ in more), not_=avoided, weights=weights_of(terms))


def read_page(parameters: Parameters) -> Page:
    """Read offset, limit, the filters, min_confidence, generated and model. Raises BadQuery."""
    return Page(
        offset=parameters.integer("offset", 0, 0, MAX_OFFSET),
        limit=parameters.integer("limit", 60, 1, MAX_LIMIT),
        filters=read_filters(parameters),
        min_confidence=parameters.number("min_confidence", None, 0, 1),
        model=parameters.text("model") or None,
    )


def read_filters(parameters: Parameters) -> Filters:
    """Read the filters; generated=0 leaves out what is marked as generated, generated=1 everything else."""
    filters = parameters.filters()
    generated = parameters.choice("generated", "", "", "0", "1")
    if not generated:
        return filters
    condition = "generated IS NULL" if generated == "0" else "generated IS NOT NULL"
    where = f"({filters.where}\n) AND {condition}" if filters.where else condition
    return replace(filters, where=where)


async def keep_uploads(request: Request, services: Services, form: FormData, name: str) -> list[Upload]:
    """Keep the files of a form field, each decoded once under guard. Raises UnreadableImage."""
    kept = []
    for value in form.getlist(name):
        if not isinstance(value, UploadFile):
            raise BadQuery(f"{name} must be a file")
        data = await value.read()
        services.used_decoders()
        kept.append(await services.pictures.run(request, lambda data=data: services.uploads.add(data)))  # type: ignore[misc]
    return kept


routes = [
    Route("/api/search", search, methods=["GET", "POST"]),
    Route("/api/similar/{id}", similar),
    Route("/api/uploads", upload, methods=["POST"]),
]
