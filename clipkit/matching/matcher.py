"""The match decision: `Matcher`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipkit.atomic import atomic_write
from clipkit.matching.bank import ConceptBank, Floats
from clipkit.matching.calibration import PHOTOGRAPHS, Calibration, probability
from clipkit.matching.evidence import PARAPHRASE, Reference, text_evidence
from clipkit.matching.pictures import picture_similarity
from clipkit.matching.statistics import LibraryStatistics
from clipkit.vectors.unit import unit

Kind = Literal["auto", "text", "image", "mixed"]
KINDS = ("auto", "text", "image", "mixed")
FORMAT = 3
TOP = 20
"""Nearest pictures that `confidence` examines: the best by score is among them, but not always the first."""


class Matcher:
    """Decides whether a library has what is asked for, from vectors alone, without labels.

    `threshold` is the confidence from which a hit is a match; see `Calibration`.
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

        kinds: one kind for all queries or one each, see `hit_confidence`.
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
        """Return the confidence of a query from the hits of a search, filtered or not; 0 without hits.

        query: (d,) float32 of unit length.
        hit_vectors: (k, d) float32 of unit length, the nearest by cosine similarity in any order; twenty suffice.

        Costs O(c (k + 1) d + d^2), independent of n.
        """
        confidences = self.hit_confidence(query, hit_vectors, kind)
        return float(confidences.max()) if len(confidences) else 0.0

    def hit_confidence(self, query: ArrayLike, hit_vectors: ArrayLike, kind: Kind = "auto") -> NDArray[np.float64]:
        """Return the probability that each hit shows what is asked for: (d,), (k, d) -> (k,) in [0, 1].

        The highest is the confidence of the query; a hit is a match if it reaches `threshold`.

        kind: what the query vector is made of. "auto" and "mixed" locate it between the mean text and the mean picture,
            which lie far apart (the modality gap), and treat it as text, as a picture, or as a mixture of both.
        """
        vector = _matrix(np.atleast_2d(np.asarray(query, np.float32)), "query", self._bank.dimension)
        if len(vector) != 1:
            raise ValueError("one query at a time: use confidence for many")
        hits = _matrix(hit_vectors, "hit vectors", self._bank.dimension)
        pictured = self._weight(vector[0], kind)
        if not len(hits) or not self.count:
            return np.zeros(len(hits))
        reference = self._current()
        logits = np.zeros(len(hits))
        if pictured < 1:
            direction = self._direction(vector[0], pictured)
            own, evidence = text_evidence(reference, vector[0], direction, hits)
            best = self.calibration.text_logit(evidence)
            logits += (1 - pictured) * (best + np.minimum(self.calibration.behind(own, evidence), 0.0))
        if pictured > 0:
            similar = picture_similarity(reference, vector[0], hits)
            logits += pictured * self.calibration.image_logit(similar)
        confidences = probability(logits)
        # An identical picture or a copy is a match in any case.
        copies = np.clip((hits @ vector[0] - 0.95) / 0.04, 0, 1)
        return confidences + (1 - confidences) * copies

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
                matcher = cls(ConceptBank(file["mean_text"], file["directions"]), statistics, None, calibration)
                matcher._reference = Reference.restored(statistics, matcher._bank, file)
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{os.fspath(path)} is not a saved matcher: {error}") from error
        return matcher

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
