"""Why a picture matched a query, or did not."""

from __future__ import annotations

from typing import Any

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.catalog.browsing import find_images
from clipkit.errors import UnreadableImage
from clipkit.generation.operations.sources import Source
from clipkit.images.hashing import content_hash
from clipkit.images.renditions import Decoded
from clipkit.searching.library_models import resolve_model
from clipkit.server.answers import query_json
from clipkit.server.parameters import Parameters, PictureRef, read_id, read_terms
from clipkit.server.problems import JsonResponse
from clipkit.server.query_pictures import locate, to_query
from clipkit.server.services import services_of


async def explain_image(request: Request) -> Response:
    """Explain how a picture of the library fits a query."""
    return await _explain(request, PictureRef("image", str(read_id(request.path_params["id"])), ""))


async def explain_generated(request: Request) -> Response:
    """Explain how a generated picture fits a query."""
    return await _explain(request, PictureRef("generated", str(read_id(request.path_params["id"])), ""))


async def _explain(request: Request, picture: PictureRef) -> Response:
    services, parameters = services_of(request), Parameters(request.query_params)
    terms, model = read_terms(parameters), parameters.text("model") or None
    services.used_decoders()

    def run() -> dict[str, Any]:
        with services.library_pool.library() as library:
            wanted = resolve_model(library.catalog, library.layout, model)
            encoder = library.searchers.get(library.catalog, wanted, services.settings.device).encoder
            path = locate(picture, library, services.uploads)
            pixels = services.decoders.run(path, Decoded(2 * encoder.preprocessing.size))
            if isinstance(pixels, UnreadableImage):
                raise pixels
            # The catalog's hash, by which the library knows the embedding that a search compares.
            record = find_images(library.catalog, [int(picture.key)]).get(int(picture.key))
            content = record.hash if record and picture.source == "image" else content_hash(path)
            found = library.explain(
                to_query(terms, library, services.uploads, encoder),
                Source(str(path), Image.fromarray(pixels), content),
                model=model,
                device=services.settings.device,
            )
            unknown = {"unknown_words": list(found.unknown_words)}
            return {**found.to_json(), "query": {**query_json(terms), **unknown}}

    return JsonResponse(await services.explaining.run(request, run), headers={"Cache-Control": "no-store"})


routes = [
    Route("/api/images/{id}/explain", explain_image),
    Route("/api/generated/{id}/explain", explain_generated),
]
