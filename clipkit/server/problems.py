"""Errors as problem details (RFC 9457), and the JSON that the API answers with."""

from __future__ import annotations

import http
import json
import sqlite3
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clipkit import errors
from clipkit.errors import ClipkitError, UnreadableImage

PREFIX = "urn:clipkit:problem:"
"""What the types of clipkit's problems begin with; the name of the error class in kebab case follows."""

_STATUS: dict[type[Exception], int] = {
    errors.BadQuery: 400,
    errors.UnreadableImage: 422,
    errors.FetchRefused: 422,
    errors.GenerationRefused: 422,
    errors.LibraryBusy: 409,
    errors.DecoderNotAvailable: 409,
    errors.DownloadFailed: 409,
    errors.ModelNotAvailable: 503,
    errors.LibraryNotFound: 503,
    errors.LibraryDamaged: 503,
    ClipkitError: 400,
}


class Problem(Exception):
    """A refusal with a status, a title and, for programs, a type."""

    def __init__(self, status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers or {}


class NotFound(Problem):
    """There is nothing of that id."""

    def __init__(self, detail: str) -> None:
        super().__init__(404, "not-found", detail)


class JsonResponse(Response):
    """Plain data as JSON, in ASCII: names of files need not be valid Unicode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def problem_response(problem: Problem) -> Response:
    """Return the answer for a problem."""
    return JsonResponse(
        to_json(problem), problem.status, headers=problem.headers, media_type="application/problem+json"
    )


def to_json(problem: Problem) -> dict[str, Any]:
    """Return the problem details object."""
    return {
        "type": PREFIX + problem.kind,
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }


def as_problem(error: Exception) -> Problem:
    """Turn any error into a problem; what is not clipkit's own says nothing about the inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        detail = error.detail if error.detail != http.HTTPStatus(error.status_code).phrase else ""
        headers = dict(error.headers or {})
        return Problem(error.status_code, _kebab(http.HTTPStatus(error.status_code).phrase), detail, headers)
    if isinstance(error, UnreadableImage):
        return Problem(422, "unreadable-image", f"the picture cannot be used: {error.reason}")
    if isinstance(error, ClipkitError):
        status = next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
        return Problem(status, _kebab(type(error).__name__), str(error))
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return Problem(503, "library-busy", "the catalog is locked by another process; try again", {"Retry-After": "1"})
    if isinstance(error, sqlite3.Error):
        return Problem(
            503, "library-damaged", f"the catalog cannot be used ({error}); `clipkit check` looks for damage"
        )
    return Problem(500, "internal-error", f"unexpected {type(error).__name__}; the log of the server says more")


async def handle(request: Request, error: Exception) -> Response:
    """Answer an error that a route raised."""
    return problem_response(as_problem(error))


def _kebab(name: str) -> str:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name)
    return "-".join(words.split())
