"""Words of a query that the model was never taught, and what they cost in confidence."""

from __future__ import annotations

from collections.abc import Sequence

from clipkit.searching.query import Query

CONFIDENCE_FACTOR = 0.1
"""Confidence factor for each word the model does not know."""

_FUNCTION_WORDS = frozenset({"a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "with", "by", "for", "from"})
_FUNCTION_WORDS |= {"is", "are", "there", "picture", "photo", "photograph", "image", "scene"}
_FUNCTION_WORDS |= {"pictures", "photos", "photographs", "images", "scenes"}
"""Words that say nothing about what a picture shows."""


def confidence_factor(unknown_words: Sequence[str]) -> float:
    """Return what the confidence, computed from the known words alone, is multiplied by.

    Most unknown words name something that no picture the model understands can show.
    """
    return CONFIDENCE_FACTOR ** len(set(unknown_words))


def known_share(query: Query, unknown_words: Sequence[str]) -> float:
    """Return the share in [0, 1] of the query's content words that the model knows."""
    if not unknown_words:
        return 1.0
    words = {w for term in query.terms() if not term.is_picture for w in str(term.value).lower().split()}
    content = {"".join(c for c in word if c.isalpha()) for word in words} - _FUNCTION_WORDS - {""}
    return 1 - min(1.0, len(unknown_words) / max(len(content), len(unknown_words)))
