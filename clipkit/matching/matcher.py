"""The match decision: does the library have what is asked for, and which hits show it?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipkit.atomic import atomic_write
from clipkit.matching.bank import PARAPHRASE, ConceptBank, Floats
from clipkit.matching.calibration import PHOTOGRAPHS, Calibration, Curve, probability
from clipkit.matching.evidence import Reference, text_evidence
from clipkit.matching.hits import hit_evidence, with_parts
from clipkit.matching.pictures import Likeness
from clipkit.matching.statistics import LibraryStatistics
from clipkit.vectors.unit import unit

Kind = Literal["auto", "text", "image", "mixed"]
KINDS = ("auto", "text", "image", "mixed")
FORMAT = 4
TOP = 20
"""Nearest pictures that `confidence` examines: the best by score is among them, but not always the first."""

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """What a query's hits say about the library, and about themselves.

    confidence: probability that the library has what was asked for.
    matched: whether it is high enough.
    hits: (k,) float64, probability that each hit shows what was asked for.
    parts: (m, k) float64, probability that each hit shows each part of the query; (0, k) without parts.
    shows: (k,) bool, the hits that are matches. If the library has what was asked for, the best hit is one.
    lacks: (m, k) bool, the parts that near misses lack: hits that are not matches, though they show another part.
    copies: (k,) float64 for a query by picture, the probability that each hit is the same picture or an edited copy.
    """

    confidence: float
    matched: bool
    hits: Probabilities
    parts: Probabilities
    shows: NDArray[np.bool_]
    lacks: NDArray[np.bool_]
    copies: Probabilities | None = None


class Matcher:
    """Decides whether a library has what is asked for and which hits show it, from vectors alone, without labels.

    `threshold` is the confidence from which the library has it; see `Calibration`, also for that of single hits.
    """

    def __init__(
        self,
        bank: ConceptBank,
        statistics: LibraryStatistics,
        images: list[Floats] | None,
        calibration: Calibration = PHOTOGRAPHS,
    ) -> None:
        self.calibration, self.threshold = calibration, calibration.threshold
        self._bank, self._statistics, self._images = bank, statistics, images
        self._reference: Reference | None = None

    @classmethod
    def fit(
        cls,
        image_vectors: ArrayLike,
        concept_vectors: ArrayLike,
        *,
        keep_images: bool = True,
        calibration: Calibration = PHOTOGRAPHS,
    ) -> Matcher:
        """Fit a matcher to a library.

        image_vectors: (n, d) float32 of unit length; n may be 0.
        concept_vectors: (c, d) float32 of unit length, c at least 1, the text embeddings of the concept bank.
        keep_images: keep the vectors (uncopied, never saved) for `confidence`; without them use `confidence_from_hits`.
        calibration: the weights for the kind of model that the vectors come from.

        Raises ValueError for other shapes, and for values that are not finite.
        """
        concepts = _matrix(concept_vectors, "concept vectors")
        if not len(concepts):
            raise ValueError("the concept bank is empty")
        statistics = LibraryStatistics.empty(concepts.shape[1], len(concepts))
        matcher = cls(ConceptBank.of(concepts), statistics, [] if keep_images else None, calibration)
        return matcher.update(image_vectors)

    def update(self, new_vectors: ArrayLike) -> Matcher:
        """Add new pictures, (m, d) float32 of unit length, in O(m); return the matcher."""
        vectors = _matrix(new_vectors, "image vectors", self._bank.dimension)
        if len(vectors):
            self._statistics.add(vectors, self._bank)
            self._reference = None
            if self._images is not None:
                self._images.append(vectors)
        return self

    @property
    def count(self) -> int:
        """The number of pictures added."""
        return self._statistics.count

    @property
    def image_mean(self) -> Floats:
        """The mean picture, (d,) float32."""
        return self._statistics.mean

    @property
    def text_mean(self) -> Floats:
        """The mean text, (d,) float32."""
        return self._bank.mean

    def confidence(
        self,
        query_vectors: ArrayLike,
        kinds: Kind | Sequence[Kind] = "auto",
        allowed: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the probability that the library has what each query asks for: (q, d) -> (q,) in [0, 1].

        Searches the vectors given to `fit` and `update` exhaustively; a loaded matcher has none, see
        `confidence_from_hits`.

        kinds: one kind for all queries or one each, see `confidence_from_hits`.
        allowed: (n,) bool, the pictures that pass a filter, in the order in which they were added.

        Raises ValueError for wrong shapes or kinds, RuntimeError without the library's vectors.
        """
        queries = _matrix(query_vectors, "query vectors", self._bank.dimension)
        names = [kinds] * len(queries) if isinstance(kinds, str) else list(kinds)
        if len(names) != len(queries):
            raise ValueError(f"{len(names)} kinds for {len(queries)} queries")
        images = self._library()
        if allowed is not None:
            mask = np.asarray(allowed, bool)
            if mask.shape != (len(images),):
                raise ValueError(f"allowed has shape {mask.shape}, not ({len(images)},)")
            images = images[mask]
        answers = np.zeros(len(queries))
        for row, (query, kind) in enumerate(zip(queries, names, strict=True)):
            answers[row] = self.confidence_from_hits(query, _nearest(images, query), kind)
        return answers

    def confidence_from_hits(self, query: ArrayLike, hit_vectors: ArrayLike, kind: Kind = "auto") -> float:
        """Return the probability that the library has what was asked for, from the best hits of a search.

        query: (d,) float32 unit.
        hit_vectors: (k, d) float32 unit, the nearest by cosine similarity, filtered or not, in any order; twenty are as
            good as all. Without hits the answer is 0.
        kind: what the query vector was built from. "auto" and "mixed" place it between the mean text and the mean
            picture, which lie far apart (the modality gap), and judge it as text, as a picture, or in proportion.
        Costs O(c (k + 1) d + d^2), independent of n.
        """
        vector, hits, pictured = self._checked(query, hit_vectors, kind)
        return float(self._answers(vector, hits, pictured, self._likeness(vector, hits, pictured)).max(initial=0.0))

    def hit_probabilities(
        self,
        query: ArrayLike,
        hit_vectors: ArrayLike,
        kind: Kind = "auto",
        parts: ArrayLike | None = None,
    ) -> Probabilities:
        """Return the probability that each hit shows what was asked for: (d,), (k, d) to (k,) in [0, 1].

        They hold if the library has it. If it probably does not, none is higher than the probability that it has.

        query, hit_vectors, kind: as for `confidence_from_hits`. A hit is compared with the best one, so it matters
            which hits are passed together, though not in which order.
        parts: (m, d) float32 unit vectors of the query's parts, as texts, if it is a text of several parts.
        """
        vector, hits, pictured = self._checked(query, hit_vectors, kind)
        likeness = self._likeness(vector, hits, pictured)
        answer = self._answers(vector, hits, pictured, likeness).max(initial=0.0)
        whole = self._hits(vector, hits, pictured, self._texts(parts), likeness)[0]
        return whole if answer >= self.threshold else np.minimum(whole, answer)

    def judge(
        self,
        query: ArrayLike,
        hit_vectors: ArrayLike,
        kind: Kind = "auto",
        *,
        parts: ArrayLike | None = None,
        known: float = 1.0,
        least: float | None = None,
        first: int | None = None,
    ) -> Judgement:
        """Decide about the library and about each hit.

        query, hit_vectors, kind, parts: as for `hit_probabilities`.
        known: factor in [0, 1] on all probabilities, for words of the query that the model does not know.
        least: the probability from which a hit is a match, instead of the calibrated thresholds; the library then has
            what was asked for if any hit is one.
        first: number of hits that are shown to a user, all by default; the best of these is a match if any is.
        """
        vector, hits, pictured = self._checked(query, hit_vectors, kind)
        likeness = self._likeness(vector, hits, pictured)
        answer = self._answers(vector, hits, pictured, likeness).max(initial=0.0)
        whole, each = self._hits(vector, hits, pictured, self._texts(parts), likeness)
        confidence, whole, each = known * float(answer), known * whole, known * each
        copies = self._copies(likeness, len(hits)) if pictured == 1 else None
        bar, matched = self.calibration.hits.threshold, bool(len(hits)) and confidence >= self.threshold
        if least is not None or not matched:
            whole = np.minimum(whole, confidence)
        if least is None:
            shows = (whole >= bar) & matched
            if matched:
                shows[whole[:first].argmax()] = True
        else:
            shows = whole >= least
            matched = bool(shows.any())
        lacks = (each < bar) & (each >= bar).any(axis=0) & ~shows
        return Judgement(confidence, matched, whole, each, shows, lacks, copies)

    def search_vector(self, query: ArrayLike, kind: Kind = "auto") -> Floats:
        """Return the vector to search with instead of the query, so that better hits come first: (d,) unit float32.

        The whitened direction of a text ranks pictures better than the text itself, which also measures what all texts
        share; see `ConceptBank`. Inner products with it order pictures, but are not cosine similarities. Queries with
        pictures are their own search vectors.
        """
        vector, pictured = self._vector(query, kind)
        return vector if pictured > 0 else unit(self._bank.whitening @ self._direction(vector, 0.0))

    def rivals(self, query: ArrayLike, hit_vector: ArrayLike, most: int = 3) -> list[tuple[int, float]]:
        """Return the concepts that describe a hit better than the query does, best first, with their lead.

        query, hit_vector: (d,) float32 of unit length.

        Each is a row of the concept bank, with its lead in standard deviations of all scores; paraphrases of the query
        are left out.
        """
        if not self.count:
            return []
        reference = self._current()
        direction = self._direction(np.asarray(query, np.float32), 0.0)
        picture = reference.pictures(np.asarray(hit_vector, np.float32))
        leads = self._bank.directions @ picture - direction @ picture
        leads[self._bank.directions @ direction >= PARAPHRASE] = -np.inf
        order = np.argsort(-leads, kind="stable")[:most]
        return [(int(row), float(leads[row])) for row in order if leads[row] > 0]

    def describe(self, vector: ArrayLike, kind: Kind = "auto") -> Floats:
        """Return how near each concept of the bank is to a query or a picture: (d,) to (c,) float32 in [-1, 1].

        vector: (d,) float32 unit. kind: what it was built from, see `confidence_from_hits`.

        These are cosine similarities in the metric of `ConceptBank.whitening`, which weights down what many concepts
        share, so that those of texts and of pictures can be compared. Pictures are centred half-way: of a library of
        beaches, every picture still shows a beach.
        """
        query, pictured = self._vector(vector, kind)
        direction = unit(query - (1 - pictured) * self._bank.mean - pictured * self._statistics.mean / 2)
        bank = self._bank
        return np.asarray(bank.directions @ (bank.whitening @ direction) / (bank.lengths * bank.length(direction)))

    def spread(self, direction: ArrayLike) -> float:
        """Return the standard deviation of the library's pictures along a direction, (d,); 0 for fewer than two."""
        if self.count < 2:
            return 0.0
        along = np.asarray(direction, np.float64)
        average = float(self._statistics.total @ along) / self.count
        variance = float(along @ (self._statistics.outer @ along)) / self.count - average**2
        return float(np.sqrt(max(variance, 0.0)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write statistics and bank to an .npz file, atomically; its size is O(c d + d^2), independent of n."""
        statistics = self._statistics
        derived: dict[str, Any] = self._current().arrays()
        with atomic_write(Path(path)) as file:
            np.savez(
                file,
                format=np.int64(FORMAT),
                count=np.int64(statistics.count),
                total=statistics.total,
                outer=statistics.outer,
                best=statistics.best,
                mean_text=self._bank.mean,
                directions=self._bank.directions,
                whitening=self._bank.whitening,
                lengths=self._bank.lengths,
                **derived,
                calibration=json.dumps(self.calibration.to_json()),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Matcher:
        """Read a file of `save`. Raises OSError if it cannot be read, ValueError if it is not a saved matcher."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) != FORMAT:
                    raise ValueError(f"format {int(file['format'])}, not {FORMAT}")
                statistics = LibraryStatistics(int(file["count"]), file["total"], file["outer"], file["best"])
                calibration = Calibration.from_json(json.loads(str(file["calibration"])))
                bank = ConceptBank(file["mean_text"], file["directions"], file["whitening"], file["lengths"])
                matcher = cls(bank, statistics, None, calibration)
                matcher._reference = Reference.restored(statistics, bank, file)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{os.fspath(path)} is not a saved matcher: {error}") from error
        return matcher

    def _checked(self, query: ArrayLike, hit_vectors: ArrayLike, kind: Kind) -> tuple[Floats, Floats, float]:
        """Return the query (d,), the hits (k, d), and how much of the query is a picture."""
        vector, pictured = self._vector(query, kind)
        return vector, _matrix(hit_vectors, "hit vectors", self._bank.dimension), pictured

    def _vector(self, query: ArrayLike, kind: Kind) -> tuple[Floats, float]:
        """Return one query (d,), and how much of it is a picture."""
        vector = _matrix(np.atleast_2d(np.asarray(query, np.float32)), "query", self._bank.dimension)
        if len(vector) != 1:
            raise ValueError("one query at a time: use confidence for many")
        return vector[0], self._weight(vector[0], kind)

    def _likeness(self, query: Floats, hits: Floats, pictured: float) -> Likeness | None:
        """Return how alike the query's pictures and the hits are; None if there is nothing to compare."""
        return Likeness.of(self._current(), query, hits) if pictured and len(hits) and self.count else None

    def _answers(self, query: Floats, hits: Floats, pictured: float, likeness: Likeness | None) -> Probabilities:
        """Return the probability that the library has what was asked for, if each hit were its best: (k,)."""
        if not len(hits) or not self.count:
            return np.zeros(len(hits))
        reference = self._current()
        logits = np.zeros(len(hits))
        if pictured < 1:
            own, evidence = text_evidence(reference, query, self._direction(query, pictured), hits)
            best = self.calibration.text_logit(evidence)
            logits += (1 - pictured) * (best + np.minimum(self.calibration.behind(own, evidence), 0.0))
        return self._with_pictures(logits, self.calibration.pictures.answer, pictured, likeness)

    def _hits(
        self, query: Floats, hits: Floats, pictured: float, parts: Floats, likeness: Likeness | None
    ) -> tuple[Probabilities, Probabilities]:
        """Return the probability that each hit shows what was asked for, (k,), and each of its parts, (m, k)."""
        if not len(hits) or not self.count:
            return np.zeros(len(hits)), np.zeros((len(parts), len(hits)))
        odds = np.zeros((1 + len(parts), len(hits)))
        if pictured < 1:
            directions = [self._direction(query, pictured), *(self._direction(part, 0.0) for part in parts)]
            texts = np.concatenate([query[None], parts])
            odds = self.calibration.hits.logits(hit_evidence(self._current(), texts, np.stack(directions), hits))
        each = probability(odds[1:])
        of_text, similar = (1 - pictured) * odds[0], self.calibration.pictures.similar
        whole = self._with_pictures(of_text, similar, pictured, likeness)
        return with_parts(whole, each, self.calibration.hits.parts), each

    def _texts(self, parts: ArrayLike | None) -> Floats:
        """Return the vectors of a query's parts, (m, d): none, or at least two."""
        if parts is None:
            return np.zeros((0, self._bank.dimension), np.float32)
        texts = _matrix(parts, "parts", self._bank.dimension)
        return texts if len(texts) > 1 else texts[:0]

    def _with_pictures(
        self, logits: Probabilities, curve: Curve, pictured: float, likeness: Likeness | None
    ) -> Probabilities:
        """Add what the query's pictures say to the log odds of its text, and return probabilities: (k,).

        A copy of the query picture is a match regardless of the rest.
        """
        if likeness is None:
            return probability(logits)
        similar = probability(logits + pictured * curve(likeness.overlap))
        return np.maximum(similar, self._copies(likeness, len(logits)))

    def _copies(self, likeness: Likeness | None, hits: int) -> Probabilities:
        """Return the probability that each hit is the query picture or an edited copy: (k,)."""
        return np.zeros(hits) if likeness is None else probability(self.calibration.pictures.copy(likeness.distance))

    def _current(self) -> Reference:
        if self._reference is None:
            self._reference = Reference.of(self._statistics, self._bank)
        return self._reference

    def _library(self) -> Floats:
        if self._images is None:
            raise RuntimeError("a loaded matcher has no image vectors: search, and use confidence_from_hits")
        if len(self._images) > 1:
            self._images = [np.concatenate(self._images)]
        return self._images[0] if self._images else np.zeros((0, self._bank.dimension), np.float32)

    def _weight(self, query: Floats, kind: Kind) -> float:
        """Return the share of pictures in a query: 0 for text, 1 for a picture."""
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if kind in ("text", "image") or not self.count:
            return float(kind == "image")
        texts, average = self._bank.mean, self._statistics.total / self.count
        gap = average - texts
        place = float((query - texts) @ gap) / max(float(gap @ gap), 1e-12)
        if kind == "auto":
            return float(np.clip((place - 0.3) / 0.4, 0, 1))
        return float(np.clip(place, 0, 1))

    def _direction(self, query: Floats, pictured: float) -> Floats:
        """Return the centred query, (d,) float32 of unit length."""
        shared = (1 - pictured) * self._bank.mean + pictured * self._statistics.mean
        return unit(query - shared)


def _matrix(values: ArrayLike, what: str, dimension: int | None = None) -> Floats:
    vectors = np.asarray(values, np.float32)
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        raise ValueError(f"{what} have shape {vectors.shape}, not (n, {dimension or 'd'})")
    if not np.isfinite(vectors).all():
        raise ValueError(f"{what} hold values that are not finite")
    return vectors


def _nearest(images: Floats, query: Floats) -> Floats:
    """Return the `TOP` pictures nearest to the query by cosine similarity."""
    if len(images) <= TOP:
        return images
    return images[np.argpartition(-(images @ query), TOP)[:TOP]]
