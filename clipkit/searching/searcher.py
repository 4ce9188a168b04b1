"""Search over one model's embeddings of a library: encode, filter, rank, decide whether it is a match."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.coverage import count_uncovered
from clipkit.catalog.filters import IS_ALLOWED, Filters, allowed_embedding_ids, apply_filters
from clipkit.catalog.layout import Layout
from clipkit.catalog.recorded_paths import recorded_paths
from clipkit.catalog.root_drives import RootDrives
from clipkit.errors import BadQuery
from clipkit.matching import Matcher
from clipkit.matching.matcher import Judgement
from clipkit.models.encoder import Encoder
from clipkit.searching import notes
from clipkit.searching.library_matcher import concepts_for, current_matcher
from clipkit.searching.presence import PresenceChecker
from clipkit.searching.query import EmbeddedQuery, ModalityMeans, Query, embed
from clipkit.searching.ranking import Candidate, Skipped, nearest_existing, to_hits
from clipkit.searching.result import SearchResult
from clipkit.searching.unknown_words import confidence_factor
from clipkit.vectors.current_vectors import CurrentVectors

MATCH_CANDIDATES = 20
"""Nearest pictures that the match decision considers, however few are asked for."""


class Searcher:
    """A snapshot of the catalog, ready to be searched with one model; discard it once `is_stale`.

    It only reads: where the search index on disk is out of date, the rest is loaded from the catalog.
    """

    def __init__(self, catalog: Catalog, layout: Layout, encoder: Encoder) -> None:
        self.catalog, self.layout, self.encoder = catalog, layout, encoder
        self._state = self._catalog_state()

    def is_stale(self) -> bool:
        """Return whether the catalog has changed since."""
        return self._catalog_state() != self._state

    def _catalog_state(self) -> tuple[tuple[int, int] | None, int]:
        space = self.encoder.space
        return self.catalog.spaces().get(space), self.catalog.last_embedding_id(space)

    def over(self, catalog: Catalog) -> Searcher:
        """Return the same snapshot, with the vectors and the match decision loaded so far, over another connection.

        Searches in several threads share the memory so, and each has a connection of its own.
        """
        other = copy.copy(self)
        other.catalog = catalog
        return other

    @cached_property
    def vectors(self) -> CurrentVectors:
        """The vectors, opened on first use."""
        space = self.encoder.space
        return CurrentVectors(self.layout.vectors(space), space, self.catalog)

    @cached_property
    def matcher(self) -> Matcher:
        """The match decision, loaded or fitted on first use."""
        statistics = self.layout.match_statistics(self.encoder.space)
        return current_matcher(statistics, self.catalog, self.encoder, self.vectors)

    def search(
        self,
        query: Query,
        k: int,
        *,
        offset: int = 0,
        filters: Filters | None = None,
        min_confidence: float | None = None,
    ) -> SearchResult:
        """Return k pictures from the `offset` nearest on; see `Library.search`.

        Raises BadQuery, UnreadableImage, FetchRefused.
        """
        _check_limits(k, offset, min_confidence)
        clock = _Clock()
        most = max(1, len(self.vectors))  # memory is allocated for as many results
        k, offset = min(k, most), min(offset, most)
        matcher = self.matcher
        clock.lap("load")
        embedded = self.embed(query)
        clock.lap("encode")
        allowed, condition = None, ""
        if filters:
            apply_filters(self.catalog, self._resolve_folders(filters))
            allowed, condition = allowed_embedding_ids(self.catalog, self.encoder.space), IS_ALLOWED
        clock.lap("filter")
        checker = PresenceChecker(RootDrives(self.catalog))
        most_wanted = max(offset + k, MATCH_CANDIDATES)
        candidates, skipped = self.nearest(embedded, most_wanted, checker, allowed, condition)
        clock.lap("search")
        # The decision about the library is made on the first page, so that it is the same on every page.
        nearest_ones, page = candidates[: max(k, MATCH_CANDIDATES)], candidates[offset : offset + k]
        found = self.vectors_of(nearest_ones)
        judged = self.judge(embedded, found, k, min_confidence)
        if not offset:
            hits = to_hits(page, judged, embedded.parts)
        else:
            both = np.concatenate([found, self.vectors_of(page)])
            with_page = self.judge(embedded, both, k, min_confidence)
            with_page = replace(with_page, shows=with_page.shows & judged.matched)
            hits = to_hits(page, with_page, embedded.parts, row=len(found), rank=offset + 1)
        lines = [
            *notes.unknown_words_notes(self.encoder.space, embedded.unknown_words),
            *notes.file_notes(page, skipped, checker),
            *self._notes(),
        ]
        if not judged.matched:
            rival = self._rival(embedded.wanted, found[judged.hits.argmax()]) if len(found) else None
            needed = matcher.threshold if min_confidence is None else min_confidence
            lines.append(notes.no_match_note(bool(candidates), rival, judged.confidence, needed))
        clock.lap("match")
        return SearchResult(
            query=query,
            library=self.layout.name,
            model=self.encoder.space,
            matched=judged.matched,
            confidence=judged.confidence,
            hits=hits,
            unknown_words=embedded.unknown_words,
            notes=tuple(lines),
            timings_ms=clock.laps,
        )

    def embed(self, query: Query) -> EmbeddedQuery:
        """Encode a query. Raises BadQuery, UnreadableImage, FetchRefused."""
        return embed(query, self.encoder, ModalityMeans(self.matcher.image_mean, self.matcher.text_mean))

    def nearest(
        self,
        embedded: EmbeddedQuery,
        most: int,
        checker: PresenceChecker,
        allowed: np.ndarray | None = None,
        condition: str = "",
    ) -> tuple[list[Candidate], Skipped]:
        """Return the `most` nearest pictures whose files exist or are away, best first, and what was skipped.

        allowed: ids of the embeddings that pass the filters. condition: that files pass them, in SQL.
        """

        def search(wanted: int) -> tuple[np.ndarray, np.ndarray]:
            scores, ids = self.vectors.search(embedded.vector[None], wanted, allowed)
            found = ids[0] >= 0
            return scores[0][found], ids[0][found]

        return nearest_existing(
            search, lambda ids: self.catalog.files_by_embedding(ids.tolist(), condition), checker, most
        )

    def judge(self, embedded: EmbeddedQuery, vectors: np.ndarray, first: int, least: float | None = None) -> Judgement:
        """Decide which of the pictures with these vectors, float32 (n, d), match; see `Matcher.judge`."""
        return self.matcher.judge(
            embedded.wanted,
            vectors,
            embedded.kind,
            parts=embedded.part_vectors,
            known=confidence_factor(embedded.unknown_words),
            least=least,
            first=first,
        )

    def vectors_of(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Return the candidates' unit vectors, float32 (n, d)."""
        if not candidates:
            return np.zeros((0, self.encoder.dimension), np.float32)
        return self.catalog.vectors(np.array([c.embedding for c in candidates], np.int64))

    def _resolve_folders(self, filters: Filters) -> Filters:
        """Return the filters with the folders as the library records them."""
        names = [name for path in filters.under for name in recorded_paths(self.catalog, Path(path))]
        return replace(filters, under=tuple(names))

    def _notes(self) -> list[str]:
        embedded = len(self.vectors)
        lines = notes.coverage_notes(self.encoder.space, embedded, count_uncovered(self.catalog, embedded))
        return [*lines, *(note for note in (self.encoder.note, self.vectors.note) if note)]

    def _rival(self, query: np.ndarray, nearest: np.ndarray) -> str | None:
        """Return the concept that fits the nearest picture better than the query does, if there is one."""
        rivals = self.matcher.rivals(query, nearest, most=1)
        return concepts_for(self.encoder)[rivals[0][0]] if rivals else None


def _check_limits(k: int, offset: int, min_confidence: float | None) -> None:
    if k < 1:
        raise BadQuery("k must be at least 1")
    if offset < 0:
        raise BadQuery("the offset must be at least 0")
    if min_confidence is not None and not 0 <= min_confidence <= 1:  # NaN too
        raise BadQuery(f"the minimum confidence must be a number from 0 to 1, not {min_confidence}")


class _Clock:
    """Time per stage, in milliseconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = (now - self._last) * 1000
        self._last = now
