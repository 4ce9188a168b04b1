"""The answers of a server as the classes that `Library` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from clipkit.catalog.generated import Generated
from clipkit.searching.query import Query
from clipkit.searching.result import Hit, SearchResult


def to_hit(data: dict[str, Any]) -> Hit:
    """Return a hit of a search."""
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


def to_result(answer: dict[str, Any], query: Query | None, hits: Sequence[Hit]) -> SearchResult:
    """Return the result of a search; `query`: None to take it from the answer."""
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


def to_generated(data: dict[str, Any]) -> Generated:
    """Return the record of a generated picture."""
    values = {field.name: data[field.name] for field in fields(Generated)}
    return Generated(
        **values | {"path": Path(data["path"]), "parents": tuple(data["parents"]), "route": tuple(data["route"])}
    )
