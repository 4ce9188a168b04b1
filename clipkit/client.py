"""A client of `clipkit serve`, with the words of `Library`: the same questions to a library on another machine."""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from clipkit import errors
from clipkit.catalog.generated import Generated
from clipkit.catalog.info import LibraryInfo
from clipkit.errors import ClipkitError, UnreadableImage
from clipkit.images.file_access import open_regular
from clipkit.indexing.report import IndexReport
from clipkit.progress import Progress, ProgressCallback
from clipkit.searching.query import Query, as_query, is_picture, is_url
from clipkit.searching.result import Hit, SearchResult

if TYPE_CHECKING:
    from clipkit.catalog.filters import Filters

Generate = Literal["auto", "never", "always"]

_PREFIX = "urn:clipkit:problem:"
_PAGE = 1000
"""Hits of one request."""


class ServerError(ClipkitError):
    """A server refused a request, cannot be reached, or does not speak clipkit's API.

    `status`: of the answer; 0 without one. `kind`: the last part of the problem's type.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Client:
    """A library behind a server that `clipkit serve` runs; use one from one thread, close it, or use `with`.

    `url`: the address that `clipkit serve` printed; a token in it is used.
    `token`: what the server asks for; by default the one in the address, else $CLIPKIT_TOKEN.
    `timeout`: in seconds, of each request; jobs may take longer.

    Answers are the classes that `Library` returns; paths in them are those of the server's machine. Errors are those of
    `Library` too, and ServerError.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0) -> None:
        given = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(given)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise ServerError(f"{url!r} is not the address of a server; write it as http://127.0.0.1:8000")
        in_url = [value for name, _, value in (p.partition("=") for p in parts.query.split("&")) if name == "token"]
        self._token = token or (in_url[0] if in_url else os.environ.get("CLIPKIT_TOKEN"))
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._base, self._timeout = parts.path.rstrip("/"), timeout
        self._open: Callable[[float | None], http.client.HTTPConnection]
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._open = lambda seconds: http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
        else:
            self._open = lambda seconds: http.client.HTTPConnection(host, port, timeout=seconds)
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the words of Library ---

    def search(
        self,
        query: Query | str,
        k: int = 10,
        *,
        offset: int = 0,
        filters: Filters | None = None,
        min_confidence: float | None = None,
        generate: Generate = "never",
        fresh: bool = False,
        model: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> SearchResult:
        """Return the k nearest pictures, as `Library.search` does; pictures of the query are uploaded."""
        query = as_query(query)
        terms = self._terms(query)
        asked: list[tuple[str, str]] = [("q", query.text), *terms.parameters(), *_filter_parameters(filters)]
        asked += [("min_confidence", repr(min_confidence))] if min_confidence is not None else []
        asked += [("model", model)] if model else []
        if k < 1:
            raise errors.BadQuery("k must be at least 1")
        first: dict[str, Any] | None = None
        hits: list[Hit] = []
        # One page decides whether the library has what was asked for; the rest only adds hits.
        while True:
            limit = min(_PAGE, k - len(hits))
            page = [("offset", str(offset + len(hits))), ("limit", str(limit))]
            answer = self._get("/api/search", [*asked, *page])
            first = first or answer
            hits += [_hit(one) for one in answer["hits"]]
            if len(hits) >= k or answer["next_offset"] is None:
                break
        result = _result(first, query, hits)
        if generate == "never" or (generate == "auto" and result.matched):
            return result
        done = self._run_job(
            "/api/generate", {**terms.body(), "fallback": generate, "fresh": fresh, "model": model}, progress
        )
        made = tuple(_generated(one) for one in done["generated"])
        return replace(result, generated=made, notes=(*result.notes, *done["notes"]))

    def similar(self, id: int, k: int = 10, *, offset: int = 0) -> SearchResult:
        """Return the k pictures nearest to picture `id` of the library, itself left out."""
        answer = self._get(f"/api/similar/{int(id)}", [("limit", str(k)), ("offset", str(offset))])
        return _result(answer, None, [_hit(one) for one in answer["hits"]])

    def generate(
        self,
        query: Query | str,
        n: int = 1,
        *,
        decoder: str | None = None,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[Generated]:
        """Generate n pictures of the query in the server's library, as `Library.generate` does."""
        settings = {"n": n, "decoder": decoder, "seed": seed, "steps": steps, "guidance": guidance, "size": size}
        done = self._run_job("/api/generate", {**self._terms(as_query(query)).body(), **settings}, progress)
        return [_generated(one) for one in done["generated"]]

    def generated(self) -> list[Generated]:
        """Return the generated pictures, oldest first."""
        found: list[Generated] = []
        offset: int | None = 0
        while offset is not None:
            answer = self._get("/api/generated", [("limit", str(_PAGE)), ("offset", str(offset))])
            found += [_generated(one) for one in answer["generated"]]
            offset = answer["next_offset"]
        return found[::-1]

    def index(
        self,
        paths: Sequence[str | Path] = (),
        *,
        model: str | None = None,
        exclude: Sequence[str] = (),
        include_generated: bool | None = None,
        remove_missing: bool = False,
        progress: ProgressCallback | None = None,
    ) -> IndexReport:
        """Bring the library up to date with folders of the server's machine, as `Library.index` does."""
        body = {
            "paths": [os.fspath(path) for path in paths],
            "exclude": list(exclude),
            "include_generated": include_generated,
            "remove_missing": remove_missing,
            "model": model,
        }
        done = self._run_job("/api/index", body, progress)
        return IndexReport(**{field.name: done[field.name] for field in fields(IndexReport)})

    def info(self) -> LibraryInfo:
        """Return what the library holds, in numbers."""
        answer = self._get("/api/info")
        return LibraryInfo(**{field.name: answer[field.name] for field in fields(LibraryInfo)})

    def thumbnail(self, id: int, size: int = 320) -> bytes:
        """Return a picture of the library as WebP, its longer side at most `size`: 160, 320, 640, 1280 or 2560."""
        return self._bytes(f"/api/images/{int(id)}/thumbnail?size={int(size)}")

    def original(self, id: int) -> bytes:
        """Return the file of a picture of the library."""
        return self._bytes(f"/api/images/{int(id)}/original")

    @property
    def name(self) -> str:
        """The name of the library."""
        return self._get("/api/info")["library"]

    @property
    def model(self) -> str:
        """The id of the model that is searched by default."""
        return self._get("/api/info")["model"]

    # --- requests ---

    def _terms(self, query: Query) -> _Terms:
        """Return the query as the server reads it, its pictures uploaded."""

        def reference(value: Any) -> str:
            return value if is_url(value) else f"upload:{self._upload(value)}"

        return _Terms(
            text=query.text,
            also=list(query.also),
            like=[reference(picture) for picture in query.like],
            avoid=[reference(value) if is_picture(value) else str(value) for value in query.not_],
            weights=[abs(term.weight) for term in query.terms()],
        )

    def _upload(self, picture: Any) -> str:
        if isinstance(picture, str | Path):
            path = Path(picture)
            with open_regular(path)[0] as file:
                data = file.read()
        elif isinstance(picture, bytes):
            path, data = Path("picture"), picture
        else:
            path, out = Path("picture"), io.BytesIO()
            picture.convert("RGB").save(out, "PNG")
            data = out.getvalue()
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="picture"; filename="picture"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        try:
            answer = self._request("POST", "/api/uploads", body, kind)
        except ServerError as error:
            if error.kind == "unreadable-image":
                reason = str(error).removeprefix("the picture cannot be used: ")
                raise UnreadableImage(path, "unreadable", reason) from None
            raise
        return json.loads(answer)["uploads"][0]["upload_id"]

    def _run_job(self, path: str, body: dict[str, Any], progress: ProgressCallback | None) -> dict[str, Any]:
        """Start a job, follow it to its end, and return the result; interrupting it cancels the job."""
        started = json.loads(
            self._request("POST", path, json.dumps(body).encode("ascii"), {"Content-Type": "application/json"})
        )
        try:
            for name, data in self._events(started["events"]):
                if name == "progress" and progress and data["stage"] != "starting":
                    progress(Progress(data["stage"], data["done"], data["total"], data["rate"]))
                elif name == "done":
                    return data
                elif name == "failed":
                    raise _error(data, data.get("status", 0))
                elif name == "cancelled":
                    raise ServerError("the job was cancelled on the server", kind="cancelled")
            raise ServerError(f"{self.url} ended the job without a result", kind="gone")
        except BaseException as error:
            if not isinstance(error, ClipkitError):
                self._request("DELETE", f"/api/jobs/{quote(started['job'])}")
            raise

    def _events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (name, data) of the events of a job, on a connection of its own."""
        with self._reaching():
            connection = self._open(None)  # a job may be silent for longer than any timeout
            try:
                connection.request("GET", self._base + path, headers=self._headers())
                response = connection.getresponse()
                if response.status != 200:
                    raise _problem(response.status, response.read())
                name = ""
                for line in response:
                    key, _, value = line.decode("utf-8").rstrip("\r\n").partition(": ")
                    if key == "event":
                        name = value
                    elif key == "data":
                        yield name, json.loads(value)
            finally:
                connection.close()

    def _get(self, path: str, parameters: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        query = urlencode([(name, value) for name, value in parameters if value], errors="surrogateescape")
        try:
            return json.loads(self._request("GET", f"{path}?{query}" if query else path))
        except ValueError as error:
            raise ServerError(f"{self.url} does not speak clipkit's API") from error

    def _bytes(self, path: str) -> bytes:
        return self._request("GET", path)

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        with self._reaching():
            for attempt in range(2):
                fresh = self._connection is None
                self._connection = self._connection or self._open(self._timeout)
                try:
                    self._connection.request(method, self._base + path, body, {**self._headers(), **(headers or {})})
                    response = self._connection.getresponse()
                    data = response.read()
                    break
                except (ConnectionError, http.client.RemoteDisconnected):
                    self.close()
                    if fresh or attempt:  # a kept connection may have been closed meanwhile
                        raise
            if response.status >= 300:
                raise _problem(response.status, data)
            return data

    def _headers(self) -> dict[str, str]:
        headers = {"X-Clipkit": "1", "Accept": "*/*"}
        return headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ServerError(f"{self.url} cannot be reached ({reason}); does `clipkit serve` run there?") from error


class _Terms:
    """A query as the server reads it."""

    def __init__(self, text: str, also: list[str], like: list[str], avoid: list[str], weights: list[float]) -> None:
        self.text, self.also, self.like, self.avoid, self.weights = text, also, like, avoid, weights

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of a search, without q."""
        weights = iter(map(repr, self.weights))
        found = [("q_weight", next(weights))] if self.text.strip() else []
        found += [("term", f"{text}~{next(weights)}") for text in self.also]
        for name, values in (("like", self.like), ("not", self.avoid)):
            for value in values:
                found += [(name, value), (f"{name}_weight", next(weights))]
        return found

    def body(self) -> dict[str, Any]:
        """Return the fields of a request to generate."""
        return {
            "text": self.text,
            "also": self.also,
            "like": self.like,
            "not": self.avoid,
            "weights": self.weights,
        }


def _filter_parameters(filters: Filters | None) -> list[tuple[str, str]]:
    if not filters:
        return []

    def moment(value: date | None) -> str:
        return value.isoformat() if value else ""

    return [
        *(("under", os.path.abspath(os.path.expanduser(folder))) for folder in filters.under),
        ("after", moment(filters.after)),
        ("before", moment(filters.before)),
        ("camera", filters.camera or ""),
        ("near", ",".join(map(repr, filters.near)) if filters.near else ""),
        ("where", filters.where or ""),
    ]


def _hit(data: dict[str, Any]) -> Hit:
    taken = data["taken"]
    return Hit(
        rank=data["rank"],
        path=Path(data["path"]),
        score=data["score"],
        confidence=data["confidence"],
        matched=data["matched"],
        id=data["id"],
        copies=tuple(Path(path) for path in data["copies"]),
        width=data["width"],
        height=data["height"],
        taken_at=taken[:19] if taken else None,
        camera=data["camera"],
        utc_offset=(taken[19:] or None) if taken else None,
        away=data["away"],
        lacks=tuple(data["lacks"]),
        copy=data["copy"],
    )


def _result(answer: dict[str, Any], query: Query | None, hits: Sequence[Hit]) -> SearchResult:
    asked = answer["query"]
    return SearchResult(
        query=query or Query(text=asked["text"], like=tuple(asked["like"])),
        library=answer["library"],
        model=answer["model"],
        matched=answer["matched"],
        confidence=answer["confidence"],
        hits=tuple(hits),
        unknown_words=tuple(asked["unknown_words"]),
        notes=tuple(answer["notes"]),
        timings_ms=answer["timings_ms"],
    )


def _generated(data: dict[str, Any]) -> Generated:
    return Generated(
        path=Path(data["path"]),
        parents=tuple(data["parents"]),
        route=tuple(data["route"]),
        **{
            name: data[name]
            for name in ("query", "model", "prior", "decoder", "seed", "steps", "guidance", "created_at", "id")
        },
    )


def _problem(status: int, body: bytes) -> ClipkitError:
    try:
        data = json.loads(body)
    except ValueError:
        data = {}
    return _error(data if isinstance(data, dict) else {}, status)


def _error(data: dict[str, Any], status: int) -> ClipkitError:
    """Return the error of `Library` that the server's problem stands for, or a ServerError."""
    kind = str(data.get("type", "")).removeprefix(_PREFIX)
    detail = str(data.get("detail") or data.get("title") or f"the server answered {status}")
    name = "".join(part.capitalize() for part in kind.split("-"))
    found = getattr(errors, name, None)
    if isinstance(found, type) and issubclass(found, ClipkitError) and found is not UnreadableImage:
        return found(detail)
    return ServerError(detail, status, kind)
