"""Queries and filters as a server reads them."""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipkit.catalog.filters import Filters


class SentQuery:
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


def filter_parameters(filters: Filters | None) -> list[tuple[str, str]]:
    """Return the parameters that filter a search."""
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
