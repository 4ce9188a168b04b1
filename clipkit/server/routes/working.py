"""Jobs over HTTP: start generating or indexing, follow the events, cancel."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from clipkit.errors import BadQuery, ClipkitError, DecoderNotAvailable
from clipkit.images.file_access import why_absent
from clipkit.library import Library
from clipkit.searching.query import AVOID_WEIGHT, MAX_WEIGHT, MIN_WEIGHT, Query, Words
from clipkit.server.jobs import Job
from clipkit.server.parameters import MAX_TERMS, MAX_TEXT, PictureRef, Terms, read_picture
from clipkit.server.problems import JsonResponse, Problem
from clipkit.server.query_pictures import locate, weights_of
from clipkit.server.services import Services, services_of

MAX_PICTURES = 64
"""Pictures of one job."""

_NO_STORE = {"Cache-Control": "no-store"}


async def generate(request: Request) -> Response:
    """Start generating pictures of a query."""
    services = services_of(request)
    body = Body(await _json(request))
    terms = body.terms()
    job: dict[str, Any] = {
        "kind": "generate",
        "n": body.integer("n", 1, 1, MAX_PICTURES),
        "seed": body.integer("seed", None, 0, 2**32 - MAX_PICTURES - 1),
        "steps": body.integer("steps", None, 1, 1000),
        "guidance": body.number("guidance", None, 0, 100),
        "size": body.integer("size", None, 16, 4096),
        "decoder": body.text("decoder") or None,
        "model": body.text("model") or None,
        "fallback": body.text("fallback") or None,
        "fresh": body.flag("fresh"),
        "device": services.settings.device,
    }
    if job["fallback"] not in (None, "auto", "always"):
        raise BadQuery("fallback must be auto or always")
    if job["fallback"]:
        job["kind"] = "fallback"
    body.check_all_known()

    def prepare() -> dict[str, Any]:
        _check_decoder(job["decoder"])
        with services.library_pool.library() as library:
            library.catalog.require_writable()
            return {**job, "query": _query_for_child(terms, library, services)}

    return _started(services.jobs.start("generate", await services.pictures.run(request, prepare)))


async def index(request: Request) -> Response:
    """Start indexing folders, or all that the library knows."""
    services = services_of(request)
    body = Body(await _json(request))
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
    return _started(services.jobs.start("index", job))


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


def _started(job: Job) -> Response:
    answer = {"job": job.id, "events": f"/api/jobs/{job.id}/events"}
    return JsonResponse(answer, 202, headers={**_NO_STORE, "Location": f"/api/jobs/{job.id}"})


class Body:
    """The fields of a JSON object, checked as they are read. All methods raise BadQuery."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values, self._known = values, set[str]()

    def get(self, name: str) -> Any:
        """Return a field, None if it is missing."""
        self._known.add(name)
        return self._values.get(name)

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.get(name)
        if value is None:
            return ""
        return _text(name, value)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > 1000:
            raise BadQuery(f"{name} must be a list of texts")
        return [_text(name, item) for item in value]

    def flag(self, name: str, default: bool | None = False) -> bool | None:
        """Return true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadQuery(f"{name} must be true or false")
        return value

    def integer(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """Return a whole number in [least, most]."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadQuery(f"{name} must be a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None, least: float, most: float) -> float | None:
        """Return a number in [least, most]."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise BadQuery(f"{name} must be a number from {least} to {most}")
        return float(value)

    def terms(self) -> Terms:
        """Return the query: text, also, like, not and weights, as in the answer to a search."""
        terms = Terms()
        texts = [*filter(str.strip, [self.text("text")]), *self.texts("also")]
        like, avoid, weights = self._refs("like"), self._refs("not"), self.get("weights")
        count = len(texts) + len(like) + len(avoid)
        if weights is None:
            weights = []
        if not isinstance(weights, list) or len(weights) > count:
            raise BadQuery("weights must be a list with at most one number a term")
        for weight in weights:
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not math.isfinite(weight):
                raise BadQuery("weights must be numbers")
            if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
                raise BadQuery("weights must be above 0, from 1e-6 to 1e6")
        defaults = [1.0] * (len(texts) + len(like)) + [AVOID_WEIGHT] * len(avoid)
        every = iter([*map(float, weights), *defaults[len(weights) :]])
        if count > MAX_TERMS:
            raise BadQuery(f"the query has {count} terms; at most {MAX_TERMS} are allowed")
        terms.texts = [(text.strip(), next(every)) for text in texts]
        for value in like:
            ref = read_picture(value)
            if ref is None:
                raise BadQuery(
                    f"like must be the id of a picture, upload:ID, generated:ID or a URL, not {value[:80]!r}"
                )
            terms.like.append((ref, next(every)))
        for value in avoid:
            ref = None if value.strip().isdecimal() else read_picture(value)
            terms.avoid.append((ref or value, next(every)))
        return terms

    def check_all_known(self) -> None:
        """Refuse fields that were not asked for: they may be misspelled."""
        if unknown := sorted(self._values.keys() - self._known):
            raise BadQuery(f"unknown field {unknown[0][:80]!r}; known are {', '.join(sorted(self._known))}")

    def _refs(self, name: str) -> list[str]:
        value = self.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [_text(name, str(v) if isinstance(v, int) and not isinstance(v, bool) else v) for v in values]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadQuery(f"{name} must be text")
    if "\0" in value:
        raise BadQuery(f"{name} contains a NUL character")
    if len(value) > MAX_TEXT:
        raise BadQuery(f"{name} has {len(value):,} characters; at most {MAX_TEXT:,} are allowed")
    return value


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "wrong-type", "send JSON, with Content-Type: application/json")
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadQuery("the body is not valid JSON") from error
    if not isinstance(value, dict):
        raise BadQuery("the body must be a JSON object")
    return value


def _check_decoder(decoder: str | None) -> None:
    """Allow only decoders of the registry that are on this machine: clients name no folders and start no downloads."""
    if decoder is None:
        return
    from clipkit.generation.decoder_files import on_disk
    from clipkit.generation.registry import entries

    entry = next((entry for entry in entries() if entry.id == decoder), None)
    if entry is None:
        raise BadQuery(f"there is no decoder {decoder[:80]!r}; `clipkit decoders list` lists them")
    if not on_disk(entry):
        raise DecoderNotAvailable(
            f"the decoder {entry.id} is not on this machine; `clipkit decoders pull {entry.id}` downloads it"
        )


def _query_for_child(terms: Terms, library: Library, services: Services) -> dict[str, Any]:
    """Return the query as the child process reads it, its pictures found. Raises as `locate`, and BadQuery."""

    def picture(ref: PictureRef) -> dict[str, str]:
        path = locate(ref, library, services.uploads)
        if ref.source == "url":
            return {"url": ref.key}
        if ref.source == "upload":  # it may expire while the job waits
            return {"bytes": base64.b64encode(path.read_bytes()).decode("ascii")}
        return {"path": os.fspath(path)}

    (text, *_), *more = terms.texts or [("", 1.0)]
    words = tuple(Words(value) for value, _ in terms.avoid if isinstance(value, str))
    # Checks the texts; the bytes stand for the pictures.
    Query(text=text, also=tuple(also for also, _ in more), like=tuple(b"" for _ in terms.like), not_=words)
    return {
        "text": text,
        "also": [also for also, _ in more],
        "like": [picture(ref) for ref, _ in terms.like],
        "not": [{"words": v} if isinstance(v, str) else picture(v) for v, _ in terms.avoid],
        "weights": list(weights_of(terms)),
    }


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
    Route("/api/generate", generate, methods=["POST"]),
    Route("/api/index", index, methods=["POST"]),
    Route("/api/jobs", jobs),
    Route("/api/jobs/{id}", job, methods=["GET", "DELETE"]),
    Route("/api/jobs/{id}/events", events),
]
