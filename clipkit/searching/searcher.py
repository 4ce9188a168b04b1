"""One space of one library, ready to be searched: vectors, match decision, encoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from clipkit.catalog.catalog import Catalog
from clipkit.catalog.coverage import count_uncovered
from clipkit.catalog.filters import IS_ALLOWED, Filters, allowed_embedding_ids, apply_filters
from clipkit.catalog.root_drives import RootDrives
from clipkit.matching import PHOTOGRAPHS, Calibration, Matcher, concepts
from clipkit.models.concepts import concept_vectors
from clipkit.models.encoder import Encoder
from clipkit.progress import Progress, ProgressCallback
from clipkit.searching.presence import Looker
from clipkit.searching.query import Means, Query, embed
from clipkit.searching.ranking import Candidate, files_notes, nearest_existing, to_hits
from clipkit.searching.result import SearchResult
from clipkit.vectors.current_vectors import CurrentVectors, needs_publishing, publish_from_catalog

JUDGED = 20
"""Nearest pictures that the match decision looks at, however few are asked for."""

_FUNCTION_WORDS = frozenset(
    ("a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "with", "by", "for", "from", "is", "are", "there",
     "picture", "photo", "photograph", "image", "scene", "pictures", "photos", "photographs", "images", "scenes")
)  # fmt: skip
"""Words that say nothing of what a picture shows."""

WORD_DOES_NOT_MATTER = 0.1
"""How likely a picture that shows the rest of a query shows all of it, with a word that the space does not know."""


class Searcher:
    """Made for the state of the catalog at one moment; `is_stale` tells when that has passed."""

    def __init__(self, catalog: Catalog, encoder: Encoder, folder: Path) -> None:
        self.catalog, self.encoder, self.folder = catalog, encoder, folder
        self._state = self._catalog_state()
        self.concepts: Sequence[str] = encoder.concepts or concepts()
        self._file = folder / "matcher.npz"
        self._matcher: Matcher | None = None

    def is_stale(self) -> bool:
        """Whether the catalog has changed since."""
        return self._catalog_state() != self._state

    def _catalog_state(self) -> tuple:
        space = self.encoder.space
        return self.catalog.spaces().get(space), self.catalog.last_embedding_id(space)

    @cached_property
    def vectors(self) -> CurrentVectors:
        """The vectors, opened when they are first searched."""
        return CurrentVectors(self.folder, self.encoder.space, self.catalog)

    @property
    def matcher(self) -> Matcher:
        """The match decision for the library as it is: read from disk and brought up to date, or fitted anew."""
        if self._matcher is None:
            saved = self._saved()
            if saved and saved.count == self.vectors.stored:
                self._matcher = saved.update(self.vectors.newer)
            else:
                self._matcher = self._fit()
        return self._matcher

    @property
    def _weights(self) -> Calibration:
        return Calibration.from_json(self.encoder.match) if self.encoder.match else PHOTOGRAPHS

    def _saved(self) -> Matcher | None:
        """What is on disk, unless it is of another encoder, or another clipkit wrote it with weights of its own."""
        try:
            matcher = Matcher.load(self._file)
        except (OSError, ValueError):
            return None
        fits = matcher.calibration == self._weights and len(matcher.text_mean) == self.encoder.dimension
        return matcher if fits else None

    def _fit(self, progress: ProgressCallback | None = None) -> Matcher:
        def report(done: int, total: int) -> None:
            if progress:
                progress(Progress("encoding concepts, once for this model", done, total))

        bank = concept_vectors(self.encoder, self.concepts, report)
        none = np.zeros((0, self.encoder.dimension), np.float32)
        matcher = Matcher.fit(none, bank, keep_images=False, calibration=self._weights)
        for _, vectors in self.catalog.searchable_embeddings(self.encoder.space):
            matcher.update(vectors)
        return matcher

    def publish_if_needed(self, *, always: bool = False, progress: ProgressCallback | None = None) -> bool:
        """Writes the search index and the match decision anew if they have fallen behind; hold the write lock."""
        space = self.encoder.space
        if not (always or needs_publishing(self.folder, space, self.catalog) or self._saved() is None):
            return False
        publish_from_catalog(self.folder, space, self.catalog)
        self._matcher = self._fit(progress)
        self._matcher.save(self._file)
        return True

    def search(
        self, query: Query, k: int, *, filters: Filters, min_confidence: float | None, library: str
    ) -> SearchResult:
        """See `Library.search`."""
        clock = _Clock()
        k = min(k, max(1, len(self.vectors)))  # room is made for k results
        matcher = self.matcher
        clock.lap("load")
        embedded = embed(query, self.encoder, Means(matcher.image_mean, matcher.text_mean))
        clock.lap("encode")
        allowed, condition = None, ""
        if filters:
            apply_filters(self.catalog, filters)
            allowed, condition = allowed_embedding_ids(self.catalog, self.encoder.space), IS_ALLOWED
        clock.lap("filter")

        def nearest(wanted: int) -> tuple[np.ndarray, np.ndarray]:
            scores, ids = self.vectors.search(embedded.vector[None], wanted, allowed)
            found = ids[0] >= 0
            return scores[0][found], ids[0][found]

        looker = Looker(RootDrives(self.catalog))
        candidates, passed = nearest_existing(
            nearest, lambda ids: self.catalog.files_by_embedding(ids.tolist(), condition), looker, max(k, JUDGED)
        )
        clock.lap("search")
        found = np.zeros((0, self.encoder.dimension), np.float32)
        if candidates:
            found = self.catalog.vectors(np.array([c.embedding for c in candidates], np.int64))
        confidences = matcher.hit_confidence(embedded.wanted, found, embedded.kind)
        confidences = confidences * trust(embedded.unknown_words)
        threshold = matcher.threshold if min_confidence is None else min_confidence
        confidence = float(confidences.max(initial=0.0))
        matched = bool(len(candidates)) and confidence >= threshold
        notes = [*self._unknown(embedded.unknown_words), *files_notes(candidates[:k], passed, looker), *self._notes()]
        if not matched:
            best = int(confidences.argmax()) if len(candidates) else 0
            notes.append(self._why_not(candidates, embedded.wanted, found[best : best + 1], confidence, threshold))
        clock.lap("match")
        return SearchResult(
            query=query,
            library=library,
            space=self.encoder.space,
            matched=matched,
            confidence=confidence,
            hits=to_hits(candidates[:k], confidences[:k], threshold),
            unknown_words=embedded.unknown_words,
            notes=tuple(notes),
            timings_ms=clock.laps,
        )

    def _unknown(self, unknown_words: Sequence[str]) -> list[str]:
        if not unknown_words:
            return []
        words = ", ".join(repr(word) for word in unknown_words)
        plural = "s" if len(unknown_words) > 1 else ""
        return [f"the model {self.encoder.space} does not know the word{plural} {words}"]

    def _notes(self) -> list[str]:
        notes = []
        covered = len(self.vectors)
        if missing := count_uncovered(self.catalog, covered):
            space, total = self.encoder.space, covered + missing
            notes.append(
                f"searched {covered:,} of {total:,} pictures ({100 * covered // total}%), those that are embedded in "
                f"{space}; `clipkit index --model {space}` embeds the others"
            )
        if self.encoder.note:
            notes.append(self.encoder.note)
        if self.vectors.note:
            notes.append(self.vectors.note)
        return notes

    def _why_not(
        self,
        candidates: Sequence[Candidate],
        query: np.ndarray,
        nearest: np.ndarray,
        confidence: float,
        threshold: float,
    ) -> str:
        """One line for a person: why nothing matches."""
        if not candidates:
            return "nothing matches: no picture of the library is left to look at"
        rivals = self.matcher.rivals(query, nearest[0], most=1)
        why = (
            f"the nearest picture is rather {self.concepts[rivals[0][0]]!r}"
            if rivals
            else "the nearest picture is too unlike it"
        )
        return f"nothing matches: {why} (confidence {confidence:.2f}, a match needs {threshold:.2f})"


def known_share(query: Query, unknown_words: Sequence[str]) -> float:
    """The share of a query's content words that the space knows; what it does not know, it cannot vouch for."""
    if not unknown_words:
        return 1.0
    words = {w for term in query.terms() if not term.is_picture for w in str(term.value).lower().split()}
    content = {"".join(c for c in word if c.isalpha()) for word in words} - _FUNCTION_WORDS - {""}
    return 1 - min(1.0, len(unknown_words) / max(len(content), len(unknown_words)))


def trust(unknown_words: Sequence[str]) -> float:
    """What the confidence, which speaks of the other words alone, is multiplied by for words that the space does not
    know: mostly such a word names what no picture that the space understands can show."""
    return WORD_DOES_NOT_MATTER ** len(set(unknown_words))


class _Clock:
    """Laps in milliseconds."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = (now - self._last) * 1000
        self._last = now
