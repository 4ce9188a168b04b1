"""Explain why a picture matched a query: scores, parts, concepts in common, and a heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipkit.catalog.embeddings import find_embedding
from clipkit.catalog.root_drives import RootDrives
from clipkit.progress import Progress, ProgressCallback
from clipkit.searching.explanation import Concepts, Explanation, Part
from clipkit.searching.library_matcher import concepts_for
from clipkit.searching.notes import unknown_words_notes
from clipkit.searching.occlusion import occlude
from clipkit.searching.presence import PresenceChecker
from clipkit.searching.query import EmbeddedQuery, Kind, Query, Term, name_of
from clipkit.searching.searcher import MATCH_CANDIDATES, Searcher

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipkit.marks.reading import Marks

CONCEPTS = 5
"""Number of concepts that are named."""
FIRST_PAGE = 10
"""Number of hits of a search whose best one is a match if the library has what is asked for."""
SHOWN_SIDE = 1024
"""Longer side in pixels, at most, of the picture that the heat is drawn on."""
LONG_SIDE = 48
"""Cells of the heat map along the picture's longer side."""


@dataclass(frozen=True)
class _Opened:
    """A decoded picture: reduced for display, the model's pixels, and its upright size before it was reduced."""

    image: Image
    pixels: np.ndarray
    whole: tuple[int, int]
    marks: Marks | None


def explain(
    searcher: Searcher,
    query: Query,
    name: str,
    data: Path | bytes | Image,
    content: str = "",
    progress: ProgressCallback | None = None,
) -> Explanation:
    """Explain why a picture matched a query, or did not; see `Library.explain`.

    name: what names the picture to people. data: where its pixels come from.
    content: the hash of its bytes, by which the library may know it; empty for pictures in memory.

    Raises BadQuery, UnreadableImage, FetchRefused.
    """
    matcher, encoder = searcher.matcher, searcher.encoder
    embedded = searcher.embed(query)
    opened = _open(data, 2 * encoder.preprocessing.size, encoder.preprocessing.pixels)

    def report(done: int, total: int) -> None:
        if progress:
            progress(Progress("hiding parts of the picture", done, total))

    hidden = occlude(encoder, opened.pixels, report)
    embedding = find_embedding(searcher.catalog, content, encoder.space)
    vector = hidden.whole if embedding is None else searcher.catalog.vectors(np.array([embedding]))[0]
    verdict = _judge(searcher, embedded, vector, embedding)
    frame = encoder.preprocessing.frame(opened.whole)

    def heat(own: np.ndarray, kind: Kind) -> np.ndarray:
        direction = matcher.search_vector(own, kind)
        return hidden.heat(direction, frame, _cells(opened.whole), matcher.spread(direction))

    asked, shown = matcher.describe(embedded.wanted, embedded.kind), matcher.describe(vector, "image")
    names = concepts_for(encoder)
    return Explanation(
        query=query,
        picture=name,
        library=searcher.layout.name,
        model=encoder.space,
        score=float(embedded.vector @ vector),
        confidence=verdict.confidence,
        matched=verdict.matched,
        query_concepts=_nearest(names, asked),
        picture_concepts=_nearest(names, shown),
        shared_concepts=_nearest(names, np.sqrt(np.maximum(asked, 0) * np.maximum(shown, 0))),
        parts=tuple(_parts(searcher, embedded, verdict, vector, embedding, heat)),
        heat=heat(embedded.wanted, embedded.kind),
        seen=_clipped(frame),
        unknown_words=embedded.unknown_words,
        notes=tuple(_notes(encoder.space, embedded, _clipped(frame), opened.marks)),
        image=opened.image,
        marks=opened.marks,
    )


def _open(data: Path | bytes | Image, shortest: int, preprocess: Callable[..., np.ndarray]) -> _Opened:
    """Decode a picture once, for the model and for display, and read its marks. Raises UnreadableImage."""
    from clipkit.images.decoding import open_picture
    from clipkit.marks.reading import read_marks

    marks = None
    if isinstance(data, Path | bytes):
        picture = open_picture(data, shortest_side=max(shortest, SHOWN_SIDE // 2))
        image, whole = picture.image, picture.whole
        marks = read_marks(data, image)
    else:
        image, whole = data.convert("RGB"), data.size
    pixels = preprocess(image, whole)
    image = image.copy()
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return _Opened(image, pixels, whole, marks)


@dataclass(frozen=True)
class _Verdict:
    """What a search says of one picture; `parts`: (m,), the probability that it shows each part of the query."""

    confidence: float
    matched: bool
    parts: np.ndarray


def _judge(searcher: Searcher, embedded: EmbeddedQuery, vector: np.ndarray, embedding: int | None) -> _Verdict:
    """Judge a picture among the nearest hits, as a search does; one that the library lacks, as if it had it.

    embedding: its id in the library, if it has one.
    """
    checker = PresenceChecker(RootDrives(searcher.catalog))
    candidates, _ = searcher.nearest(embedded, MATCH_CANDIDATES, checker)
    vectors = searcher.vectors_of(candidates)
    ids = [candidate.embedding for candidate in candidates]
    among = True
    if embedding in ids:
        row = ids.index(embedding)
    elif embedding is None:
        row = int(np.count_nonzero(vectors @ embedded.vector > vector @ embedded.vector))
        vectors = np.insert(vectors, row, vector, axis=0)
    else:  # on a later page, where it is a match only if the library has what is asked for
        among = searcher.judge(embedded, vectors, FIRST_PAGE).matched
        row, vectors = len(vectors), np.concatenate([vectors, vector[None]])
    judged = searcher.judge(embedded, vectors, FIRST_PAGE)
    matched = bool(judged.shows[row]) and among
    return _Verdict(float(judged.hits[row]), matched, judged.parts[:, row])


def _parts(
    searcher: Searcher,
    embedded: EmbeddedQuery,
    verdict: _Verdict,
    vector: np.ndarray,
    embedding: int | None,
    heat: Callable[[np.ndarray, Kind], np.ndarray],
) -> Iterator[Part]:
    """Yield the parts of a text that has several, else the wanted terms if there are several; then what is avoided."""

    def of_term(term: Term, own: np.ndarray) -> Part:
        kind: Kind = "image" if term.is_picture else "text"
        alone = _judge(searcher, EmbeddedQuery(own, own, kind), vector, embedding)
        avoided, score = term.weight < 0, float(own @ vector)
        return Part(name_of(term.value), avoided, score, alone.confidence, alone.matched, heat(own, kind))

    if embedded.parts and embedded.part_vectors is not None:
        bar = searcher.matcher.calibration.hits.threshold
        for name, own, confidence in zip(embedded.parts, embedded.part_vectors, verdict.parts, strict=True):
            # As in a search, a match lacks nothing.
            shown = verdict.matched or bool(confidence >= bar)
            yield Part(name, False, float(own @ vector), float(confidence), shown, heat(own, "text"))
    wanted = [(term, own) for term, own in embedded.terms if term.weight > 0]
    avoided = [(term, own) for term, own in embedded.terms if term.weight < 0]
    for term, own in wanted if len(wanted) > 1 and not embedded.parts else ():
        yield of_term(term, own)
    for term, own in avoided:
        yield of_term(term, own)


def _nearest(names: Sequence[str], similarities: np.ndarray) -> Concepts:
    order = np.argsort(-similarities, kind="stable")[:CONCEPTS]
    return tuple((names[row], float(similarities[row])) for row in order if similarities[row] > 0)


def _cells(whole: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of a heat map with cells that are about square."""
    width, height = (max(1, round(LONG_SIDE * side / max(whole))) for side in whole)
    return height, width


def _clipped(frame: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in frame)
    return left, top, right, bottom


def _notes(
    model: str, embedded: EmbeddedQuery, seen: tuple[float, float, float, float], marks: Marks | None
) -> Iterator[str]:
    yield from unknown_words_notes(model, embedded.unknown_words)
    share = (seen[2] - seen[0]) * (seen[3] - seen[1])
    if share < 0.995:
        yield f"the model sees only the middle of the picture, {share:.0%} of it"
    if marks is not None and marks.generated:
        yield f"the picture is marked as {'edited' if marks.edited else 'generated'} by AI"
