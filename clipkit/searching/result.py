"""Search results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clipkit.catalog.generated import Generated
from clipkit.matching.parts import lacking
from clipkit.searching.query import Query


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture of the library.

    `score`: cosine similarity to the query.
    `confidence`: the probability that it shows what was asked for. `matched`: whether that suffices, see `Calibration`.
    `lacks`: for a near miss of a query of several parts, the parts that it probably does not show: "on the beach".
    `copy`: for a query by picture, the probability that it is the same picture or an edited copy.
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
    lacks: tuple[str, ...] = ()
    copy: float | None = None

    @property
    def relation(self) -> Literal["copy", "similar"] | None:
        """What a match of a query by picture is: a copy of it, or a picture of the same kind of thing."""
        if self.copy is None or not self.matched:
            return None
        return "copy" if self.copy >= 0.5 else "similar"

    @property
    def near_miss(self) -> str:
        """The parts of the query that a near miss lacks, in words: "no beach"; empty for other hits."""
        return ", ".join(lacking(part) for part in self.lacks)

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
            "lacks": list(self.lacks),
            "relation": self.relation,
            "copy": None if self.copy is None else round(self.copy, 4),
        }


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and the decision whether the library has what was asked for; iterates over the hits.

    `confidence`: the probability that the library has it. `matched`: whether that suffices.
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
