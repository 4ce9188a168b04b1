"""What a search returns, with its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clipkit.catalog.generated import Generated
from clipkit.searching.query import Query


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture of the library.

    `score` is the cosine similarity to the query; `confidence` in [0, 1] that it shows what was asked for; `matched`
    whether that is enough. `copies` are other paths of the same bytes. Width and height are in pixels, upright.
    `taken_at` is local time, "YYYY-MM-DDTHH:MM:SS", and `utc_offset` that clock's, as "+02:00", where it is known.
    `away`: the file lies on a drive, or in a folder, that is not there now.
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
        """The keys that `clipkit search --json` promises."""
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
    """Hits, best first, and the decision whether the library has what was asked for.

    `notes` say in plain words what a person should know: words the space does not know, files that have gone, why
    nothing matches. `generated` holds what was made, not found: it is never among the hits. Iterating gives the hits.
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
        """One plain object, as `clipkit search --json` prints it."""
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
