"""Generating pictures of a query."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clipkit.errors import BadQuery
from clipkit.generation.job import check_abilities
from clipkit.generation.operations.masks import clipped
from clipkit.library import Library
from clipkit.searching.query import Query, Words
from clipkit.server.body import Body, read_body
from clipkit.server.job_pictures import JobPictures
from clipkit.server.parameters import PictureRef, Terms
from clipkit.server.picture_jobs import decoder_for, read_count, read_sampling, read_steps, start
from clipkit.server.query_pictures import weights_of


async def generate(request: Request) -> Response:
    """Start generating pictures of a query."""
    body = await read_body(request)
    terms, options = body.terms(), read_sampling(body)
    job: dict[str, Any] = {
        "n": read_count(body),
        "options": options | _given("steps", read_steps(body)),
        "model": body.text("model") or None,
        "fallback": _fallback(body),
        "fresh": body.flag("fresh"),
    }

    def prepare(library: Library, pictures: JobPictures) -> dict[str, Any]:
        if not job["fallback"]:  # which says in a note what it cannot do
            check_abilities(decoder_for("generate", options.get("decoder"), library), "generate")
        return {"query": _sent(terms, pictures)} | ({"kind": "fallback"} if job["fallback"] else {})

    return await start(request, body, "generate", job, prepare)


def _fallback(body: Body) -> str | None:
    value = body.text("fallback") or None
    if value not in (None, "auto", "always"):
        raise BadQuery("fallback must be auto or always")
    return value


def _given(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _sent(terms: Terms, pictures: JobPictures) -> dict[str, Any]:
    """Return the query as the child process reads it, its pictures found and checked.

    Raises as `JobPictures.send`, and BadQuery.
    """

    def picture(ref: PictureRef) -> dict[str, Any]:
        sent = pictures.send(ref)
        size = pictures.size(sent)
        if ref.region:
            clipped(ref.region, size)
        return sent

    (text, *_), *more = terms.texts or [("", 1.0)]
    words = tuple(Words(value) for value, _ in terms.avoid if isinstance(value, str))
    # Checks the texts; the bytes stand for the pictures.
    Query(text=text, also=tuple(also for also, _ in more), like=tuple(b"" for _ in terms.like), not_=words)
    return {
        "text": text,
        "also": [also for also, _ in more],
        "like": [picture(ref) for ref, _ in terms.like],
        "not": [{"text": v} if isinstance(v, str) else picture(v) for v, _ in terms.avoid],
        "weights": list(weights_of(terms)),
    }


routes = [Route("/api/generate", generate, methods=["POST"])]
