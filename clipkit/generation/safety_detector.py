"""Which of a list's concepts a text asks for or a picture shows, by the embeddings of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL.Image import Image

from clipkit.generation.safety_list import Concept
from clipkit.generation.safety_towers import Towers
from clipkit.matching.parts import parts_of, standalone
from clipkit.matching.prototypes import PICTURE_THRESHOLD, TEXT_THRESHOLD, Prototypes
from clipkit.progress import ProgressCallback
from clipkit.vectors.unit import unit


@dataclass(frozen=True)
class Detector:
    """The prototypes of a list's concepts in the space of one model.

    concepts: those that the model has words for, in the order of `prototypes`.
    prototypes: None if it has words for none of them.
    """

    towers: Towers
    concepts: tuple[Concept, ...]
    prototypes: Prototypes | None

    @classmethod
    def fit(cls, towers: Towers, concepts: Sequence[Concept], progress: ProgressCallback | None = None) -> Detector:
        """Encode the concepts' phrasings, without those that have words which the model was not taught."""
        known = {
            concept: [phrasing for phrasing in concept.phrasings if not towers.unknown_words(phrasing)]
            for concept in concepts
        }
        known = {concept: phrasings for concept, phrasings in known.items() if phrasings}
        if not known:
            return cls(towers, (), None)
        encoded = unit(towers.texts([phrasing for phrasings in known.values() for phrasing in phrasings]))
        ends = np.cumsum([len(phrasings) for phrasings in known.values()])[:-1]
        return cls(towers, tuple(known), Prototypes.fit(np.split(encoded, ends), towers.bank(progress)))

    def in_text(self, text: str) -> list[Concept]:
        """Return the concepts that a text, or one of its parts, asks for."""
        if self.prototypes is None:
            return []
        texts = list(dict.fromkeys([text, *map(standalone, parts_of(text))]))
        scores = self.prototypes.in_texts(unit(self.towers.texts(texts)))
        return self._above(scores.max(axis=0), TEXT_THRESHOLD)

    def in_picture(self, picture: Image) -> list[Concept]:
        """Return the concepts that a picture shows; none without an image tower."""
        return self.in_embedding(self.towers.pictures([picture])[0]) if self.towers.pictures else []

    def in_embedding(self, embedding: np.ndarray) -> list[Concept]:
        """Return the concepts that a picture shows, from its embedding, (d,), by this model."""
        if self.prototypes is None:
            return []
        return self._above(self.prototypes.in_pictures(embedding[None])[0], PICTURE_THRESHOLD)

    def _above(self, scores: np.ndarray, threshold: float) -> list[Concept]:
        return [concept for concept, score in zip(self.concepts, scores, strict=True) if score >= threshold]
