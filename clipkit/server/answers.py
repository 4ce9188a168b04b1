"""What the API says about pictures and search results, as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipkit.catalog.browsing import ImageRecord, find_images
from clipkit.catalog.generated import Generated
from clipkit.catalog.layout import Layout
from clipkit.errors import GenerationRefused
from clipkit.generation.command_line import command_line
from clipkit.images.opening import open_header
from clipkit.library import Library
from clipkit.searching.result import SearchResult
from clipkit.server.parameters import PictureRef, Terms


def search_answer(
    result: SearchResult, library: Library, terms: Terms, *, offset: int, limit: int, uploads: Sequence[dict] = ()
) -> dict[str, Any]:
    """Return a page of hits: the object of `clipkit search --json`, with more about each hit and about the page."""
    records = find_images(library.catalog, [hit.id for hit in result])
    hits = []
    for hit in result:
        record = records.get(hit.id)
        hits.append(
            {
                **hit.to_json(),
                # Unrounded: what prints them rounds once.
                "score": hit.score,
                "confidence": hit.confidence,
                "width": hit.width,
                "height": hit.height,
                "taken": _taken(hit.taken_at, hit.utc_offset),
                "camera": hit.camera,
                "generated": bool(record and record.generated),
                **image_urls(hit.id, record.hash if record else ""),
            }
        )
    whole = len(hits) == limit
    return {
        **result.to_json(),
        "confidence": result.confidence,
        "query": {
            **query_json(terms),
            "unknown_words": list(result.unknown_words),
            "uploads": list(uploads),
        },
        "hits": hits,
        "generated": [generated_json(picture, library.layout) for picture in result.generated],
        "offset": offset,
        "limit": limit,
        "next_offset": offset + limit if whole else None,
    }


def query_json(terms: Terms) -> dict[str, Any]:
    """Return the query as the client wrote it, so that it can be asked again."""

    def name(value: str | PictureRef) -> str:
        return value if isinstance(value, str) else value.text

    (text, *_), *more = terms.texts or [("", 1.0)]
    return {
        "text": text,
        "also": [also for also, _ in more],
        "like": [ref.text for ref, _ in terms.like],
        "not": [name(value) for value, _ in terms.avoid],
        "weights": [weight for _, weight in (*terms.texts, *terms.like, *terms.avoid)],
        "regions": [list(ref.region) if ref.region else None for ref, _ in terms.like],
    }


def earlier_generated(library: Library, result: SearchResult, terms: Terms) -> Generated | None:
    """Return the picture that was generated earlier for a query that nothing matches, of words alone.

    None if the list of refused concepts has these words by now, or if it was made while the check was off.
    """
    if result.matched or terms.like or any(isinstance(value, PictureRef) for value, _ in terms.avoid):
        return None
    from clipkit.generation.availability import decoder_for_spaces
    from clipkit.generation.fallback import find_earlier
    from clipkit.generation.job import guard_for, wanted_texts

    decoder = decoder_for_spaces(result.model, *library.catalog.spaces())
    try:
        guard = guard_for(decoder, {"catalog": library.catalog, "layout": library.layout})
        if guard:
            guard.check_words(wanted_texts(result.query.terms()))
    except GenerationRefused:
        return None
    return find_earlier(result.query, decoder, library.catalog, guard)


def image_json(record: ImageRecord) -> dict[str, Any]:
    """Return what the catalog knows about a file."""
    return {
        "id": record.id,
        "path": str(record.path),
        "name": record.path.name,
        "bytes": record.size,
        "width": record.width,
        "height": record.height,
        "format": record.format,
        "taken": _taken(record.taken_at, record.utc_offset),
        "camera": record.camera,
        "lens": record.lens,
        "latitude": record.latitude,
        "longitude": record.longitude,
        "title": record.title,
        "description": record.description,
        "keywords": json.loads(record.keywords) if record.keywords else [],
        "generated": bool(record.generated),
        **image_urls(record.id, record.hash),
    }


def image_urls(number: int, content_hash: str) -> dict[str, str]:
    """Return where the thumbnail and the original are; `v` changes with the content, so that both can be kept."""
    place = f"/api/images/{number}"
    return {
        "thumbnail": f"{place}/thumbnail?size=320&v={content_hash[:12]}",
        "original": f"{place}/original?v={content_hash[:12]}",
    }


def generated_json(picture: Generated, layout: Layout) -> dict[str, Any]:
    """Return what is known about a generated picture of the library in `layout`."""
    return generated_links(made_json(picture, layout))


def made_json(picture: Generated, layout: Layout) -> dict[str, Any]:
    """Return the record of a generated picture, and the command that makes it again, null if there is none."""
    return {**picture.to_json(), "edited": picture.edited, "command": command_line(picture, layout)}


def generated_links(picture: dict[str, Any]) -> dict[str, Any]:
    """Return the plain data of a generated picture with its size and where a client finds it."""
    path = Path(picture["path"])
    width, height = _size(path)
    place = f"/api/generated/{picture['id']}"
    return {
        **picture,
        "name": path.name,
        "width": width,
        "height": height,
        "generated": True,
        "thumbnail": f"{place}/thumbnail?size=320",
        "original": f"{place}/original",
    }


def _taken(taken_at: str | None, utc_offset: str | None) -> str | None:
    return f"{taken_at}{utc_offset or ''}" if taken_at else None


def _size(path: Path) -> tuple[int | None, int | None]:
    try:
        with path.open("rb") as file, open_header(file) as image:
            return image.size
    except (OSError, ValueError):
        return None, None
