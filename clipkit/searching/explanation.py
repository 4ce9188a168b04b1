"""Why a picture matched a query, or did not: what `Library.explain` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipkit.searching.query import Query, Term

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.marks.reading import Marks

Floats = NDArray[np.float32]
Concepts = tuple[tuple[str, float], ...]
"""Concepts with how near they are, at most 1, the nearest first."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a query: of its text, see `clipkit.matching.parts`, a picture to resemble, or what is to be avoided.

    `score`: cosine similarity of the part alone to the picture.
    `confidence`: the probability that the picture shows it. `shown`: whether that suffices for a match.
    `heat`: as that of the `Explanation`, for this part alone.
    """

    text: str
    avoided: bool
    score: float
    confidence: float
    shown: bool
    heat: Floats = field(repr=False)

    @property
    def in_words(self) -> str:
        """Its text, after "not" for what is to be avoided."""
        return f"not {self.text}" if self.avoided else self.text

    def to_json(self) -> dict:
        """Return plain data."""
        return {
            "text": self.text,
            "avoided": self.avoided,
            "score": round(self.score, 6),
            "confidence": round(self.confidence, 4),
            "shown": self.shown,
            "heat": _rows(self.heat),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture matched a query, or did not.

    `picture`: its path or URL; "(image)" if it was given in memory.
    `score`, `confidence`, `matched`: those of the picture as a hit of a search for the query, see `Hit`.
    `query_concepts`, `picture_concepts`: the nearest concepts of the model's bank, each with its similarity.
    `shared_concepts`: those near to both, each with the geometric mean of its two similarities.
    `parts`: the parts of the query, with their own scores and heat; none if it has only one.
    `heat`: (rows, columns) float32 in [0, 1] over the upright picture. The hotter a cell, the more the picture loses of
    what was asked for when that place is hidden, and keeps of it when all but that place is hidden. 1 is the hottest
    cell, and at least one standard deviation of the library's pictures: a picture that shows nothing of it stays cold.
    `seen`: (left, top, right, bottom) in fractions of the picture's sides: the part that the model sees. The heat is 0
    elsewhere.
    `notes`: sentences for people.
    `image`: the upright picture, reduced, which `save` draws on. `marks`: those of its file.
    """

    query: Query
    picture: str
    library: str
    model: str
    score: float
    confidence: float
    matched: bool
    query_concepts: Concepts
    picture_concepts: Concepts
    shared_concepts: Concepts
    parts: tuple[Part, ...]
    heat: Floats = field(repr=False)
    seen: tuple[float, float, float, float]
    unknown_words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image: Image | None = field(default=None, repr=False, compare=False)
    marks: Marks | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict:
        """Return plain data, as `clipkit explain --json` prints it; heat as a list of rows."""
        return {
            "query": {**self.query.to_json(), "unknown_words": list(self.unknown_words)},
            "picture": self.picture,
            "library": self.library,
            "model": self.model,
            "score": round(self.score, 6),
            "confidence": round(self.confidence, 4),
            "matched": self.matched,
            "query_concepts": _concepts(self.query_concepts),
            "picture_concepts": _concepts(self.picture_concepts),
            "shared_concepts": _concepts(self.shared_concepts),
            "parts": [part.to_json() for part in self.parts],
            "heat": _rows(self.heat),
            "seen": [round(edge, 4) for edge in self.seen],
            "notes": list(self.notes),
        }

    def draw(self) -> Image:
        """Return a sheet, RGB: the picture, the heat of the query and of each of its parts over it, and a legend.

        Raises ValueError for an explanation without `image`.
        """
        from clipkit.images.contact_sheet import Tile
        from clipkit.searching.heat_picture import Panel, draw_heat

        if self.image is None:
            raise ValueError("this explanation has no picture to draw on")
        made = ""
        if self.marks is not None and self.marks.generated:
            made = "AI-edited" if self.marks.edited else "AI-generated"
        found = "match" if self.matched else "no match"
        numbers = f"{found}, confidence {self.confidence:.2f}, cosine {self.score:.3f}"
        panels = [Panel(self.heat, "the whole query", numbers)]
        for part in self.parts:
            shown = "shown" if part.shown else "not shown"
            panels.append(Panel(part.heat, part.in_words, f"{shown}, confidence {part.confidence:.2f}"))
        return draw_heat(
            Tile(self.image, Path(self.picture).name, made, warning=bool(made)), panels, self.seen, self.words
        )

    def save(self, path: str | Path) -> None:
        """Write what `draw` returns as PNG, JPEG or WebP, by the extension, with the marks of the picture if it is
        marked as generated or edited.

        Raises BadQuery if `path` is the picture itself, ClipkitError for another extension, or if it cannot be written.
        """
        from clipkit.searching.heat_file import save_heat

        save_heat(self.draw(), Path(path), words=self.words, picture=self.picture, model=self.model, marks=self.marks)

    @property
    def words(self) -> str:
        """The query on one line, with pictures by their file names."""
        return ", ".join(("" if term.weight > 0 else "not ") + _word(term) for term in self.query.terms())


def _word(term: Term) -> str:
    if not term.is_picture:
        return str(term.value)
    return f"like {Path(term.value).name}" if isinstance(term.value, str | Path) else "like a picture"


def _concepts(concepts: Concepts) -> list[dict]:
    return [{"concept": concept, "score": round(score, 4)} for concept, score in concepts]


def _rows(heat: Floats) -> list[list[float]]:
    return [[round(float(value), 3) for value in row] for row in heat]
