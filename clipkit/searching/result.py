"""Search results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clipkit.catalog.generated import Generated
from clipkit.searching.query import Query


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture of the library.

    `score`: cosine similarity to the query.
    `confidence`: in [0, 1], that it shows what was asked for. `matched`: whether that reaches the threshold.
    `copies`: other paths with the same bytes.
    `width`, `height`: in pixels, after EXIF orientation.
    `taken_at`: local time, "YYYY-MM-DDTHH:MM:SS". `utc_offset`: its offset, "+02:00", where known.
    `away`: the file is on a drive or in a folder that is away.
    """

    rank: int
    path: Path
    score: float
    confidence: float
    matched: bool
    id: int
    copies: tuple[Path, ...] = ()
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    camera: str | None = None
    utc_offset: str | None = None
    away: bool = False

    def to_json(self) -> dict:
        """Return plain data, as in the output of `clipkit search --json`."""
        return {
            "rank": self.rank,
            "path": str(self.path),
            "score": round(self.score, 6),
            "confidence": round(self.confidence, 4),
            "matched": self.matched,
            "id": self.id,
            "copies": [str(path) for path in self.copies],
            "away": self.away,
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and the decision whether the library has what was asked for; iterates over the hits.

    `notes`: sentences for people, on words the model does not know, deleted files, why nothing matches.
    `generated`: generated pictures, never among the hits.
    """

    query: Query
    library: str
    model: str
    matched: bool
    confidence: float
    hits: tuple[Hit, ...]
    unknown_words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    generated: tuple[Generated, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def to_json(self) -> dict:
        """Return plain data, as `clipkit search --json` prints it."""
        return {
            "query": {**self.query.to_json(), "unknown_words": list(self.unknown_words)},
            "library": self.library,
            "model": self.model,
            "matched": self.matched,
            "confidence": round(self.confidence, 4),
            "hits": [hit.to_json() for hit in self.hits],
            "generated": [picture.to_json() for picture in self.generated],
            "notes": list(self.notes),
            "timings_ms": {name: round(ms, 2) for name, ms in self.timings_ms.items()},
        }
