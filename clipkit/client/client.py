"""A client of `clipkit serve`, with the words of `Library`: the same questions to a library on another machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipkit import errors
from clipkit.catalog.generated import Generated
from clipkit.catalog.info import LibraryInfo
from clipkit.client.answered import to_generated, to_hit, to_result
from clipkit.client.picture_maker import PictureMaker
from clipkit.client.sent_query import filter_parameters
from clipkit.client.transport import Transport
from clipkit.indexing.report import IndexReport
from clipkit.progress import ProgressCallback
from clipkit.searching.query import Query, as_query
from clipkit.searching.result import Hit, SearchResult

if TYPE_CHECKING:
    from clipkit.catalog.filters import Filters

Generate = Literal["auto", "never", "always"]

_PAGE = 1000
"""Hits of one request."""


class Client(PictureMaker):
    """A library behind a server that `clipkit serve` runs; use one from one thread, close it, or use `with`.

    `url`: the address that `clipkit serve` printed; a token in it is used.
    `token`: what the server asks for; by default the one in the address, else $CLIPKIT_TOKEN.
    `timeout`: in seconds, of each request; jobs may take longer.

    Answers are the classes that `Library` returns; paths in them are those of the server's machine. Errors are those of
    `Library` too, and ServerError.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0) -> None:
        super().__init__(Transport(url, token, timeout))

    @property
    def url(self) -> str:
        """The address of the server, without a token."""
        return self._server.url

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

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
        sent = self._sent(query)
        asked: list[tuple[str, str]] = [("q", query.text), *sent.parameters(), *filter_parameters(filters)]
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
            answer = self._server.get("/api/search", [*asked, *page])
            first = first or answer
            hits += [to_hit(one) for one in answer["hits"]]
            if len(hits) >= k or answer["next_offset"] is None:
                break
        result = to_result(first, query, hits)
        if generate == "never" or (generate == "auto" and result.matched):
            return result
        done = self._server.run_job(
            "/api/generate", {**sent.body(), "fallback": generate, "fresh": fresh, "model": model}, progress
        )
        made = tuple(to_generated(one) for one in done["generated"])
        return replace(result, generated=made, notes=(*result.notes, *done["notes"]))

    def similar(self, id: int, k: int = 10, *, offset: int = 0) -> SearchResult:
        """Return the k pictures nearest to picture `id` of the library, itself left out."""
        answer = self._server.get(f"/api/similar/{int(id)}", [("limit", str(k)), ("offset", str(offset))])
        return to_result(answer, None, [to_hit(one) for one in answer["hits"]])

    def generated(self) -> list[Generated]:
        """Return the generated pictures, oldest first."""
        found: list[Generated] = []
        offset: int | None = 0
        while offset is not None:
            answer = self._server.get("/api/generated", [("limit", str(_PAGE)), ("offset", str(offset))])
            found += [to_generated(one) for one in answer["generated"]]
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
        done = self._server.run_job("/api/index", body, progress)
        return IndexReport(**{field.name: done[field.name] for field in fields(IndexReport)})

    def info(self) -> LibraryInfo:
        """Return what the library holds, in numbers."""
        answer = self._server.get("/api/info")
        return LibraryInfo(**{field.name: answer[field.name] for field in fields(LibraryInfo)})

    def thumbnail(self, id: int, size: int = 320) -> bytes:
        """Return a picture of the library as WebP, its longer side at most `size`: 160, 320, 640, 1280 or 2560."""
        return self._server.request("GET", f"/api/images/{int(id)}/thumbnail?size={int(size)}")

    def original(self, id: int) -> bytes:
        """Return the file of a picture of the library."""
        return self._server.request("GET", f"/api/images/{int(id)}/original")

    @property
    def name(self) -> str:
        """The name of the library."""
        return self._server.get("/api/info")["library"]

    @property
    def model(self) -> str:
        """The id of the model that is searched by default."""
        return self._server.get("/api/info")["model"]
