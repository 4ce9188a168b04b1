"""Whether a text asks for a concept, and whether a picture shows it, without a library to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import PARAPHRASE, ConceptBank, Floats
from clipkit.matching.evidence import mean_of_rivals
from clipkit.vectors.unit import unit

TEXT_THRESHOLD = 3.8
"""Score from which a text asks for a concept: about one in 600 unrelated nouns scores higher."""
PICTURE_THRESHOLD = 0.6
"""Score from which a picture shows a concept: about one in 180 photos whose captions do not name it scores higher.

Both were chosen on public research vectors, by `scripts/evaluate_safety.py`; see docs/safety.md.
"""


@dataclass(frozen=True)
class Prototypes:
    """Concepts, each as one direction of a model's space, found from a few texts that mean it.

    bank: everyday concepts, which every text and picture is compared with too.
    directions: (p, d) float32 of unit length, the mean of a concept's centred texts.
    probes: (p, d) float32, the same whitened: scores along them count what sets a concept apart, see `ConceptBank`.

    The prototypes of zero-shot classification (Radford et al., "Learning Transferable Visual Models", 2021, section
    3.1), used one concept at a time: both scores are differences from what the bank's concepts score, in standard
    deviations, so that the thresholds hold for other models and for banks of other sizes.
    """

    bank: ConceptBank
    directions: Floats
    probes: Floats

    @classmethod
    def fit(cls, texts: Sequence[Floats], bank_vectors: Floats) -> Prototypes:
        """Return the prototypes of p concepts.

        texts: for each concept, the unit embeddings of its texts, (t, d) float32, t at least 1.
        bank_vectors: (c, d) float32 of unit length, the text embeddings of the concept bank.
        """
        bank = ConceptBank.of(bank_vectors)
        directions = np.stack([unit(unit(vectors - bank.mean).mean(axis=0)) for vectors in texts])
        lengths = np.array([bank.length(direction) for direction in directions], np.float32)
        return cls(bank, directions, (directions @ bank.whitening) / lengths[:, None])

    def in_texts(self, vectors: Floats) -> NDArray[np.float64]:
        """Return how clearly texts ask for each concept: unit embeddings (n, d) to (n, p).

        The score of a text along the concept's probe, in standard deviations of the scores of the bank's concepts,
        those left out that mean the same.
        """
        asked = unit(vectors - self.bank.mean) @ self.probes.T
        everyday = self.bank.directions @ self.probes.T
        scores = np.full(asked.shape, -np.inf)
        for number, rivals in enumerate(self._rivals()):
            if len(rivals) > 1:
                spread = max(float(everyday[rivals, number].std()), 1e-6)
                scores[:, number] = (asked[:, number] - everyday[rivals, number].mean()) / spread
        return scores

    def in_pictures(self, vectors: Floats) -> NDArray[np.float64]:
        """Return how clearly pictures show each concept: image embeddings of any length, (n, d), to (n, p).

        The lead of the concept over the bank's concepts that describe the picture best, in standard deviations of all
        their scores for this picture (the softmax over concepts of MCM as a difference: Ming et al., NeurIPS 2022).
        """
        pictures = unit(vectors)
        described = np.asarray((pictures @ self.bank.whitening) @ self.bank.directions.T / self.bank.lengths)
        shown = pictures @ self.probes.T
        closeness = self.bank.directions @ self.directions.T
        scores = np.full(shown.shape, -np.inf)
        for number, rivals in enumerate(self._rivals()):
            if len(rivals) > 1:
                lead = shown[:, number] - mean_of_rivals(described, closeness[:, number])
                scores[:, number] = lead / np.maximum(described[:, rivals].std(axis=1), 1e-6)
        return scores

    def _rivals(self) -> list[NDArray[np.intp]]:
        """Return for each concept the rows of the bank that do not mean the same."""
        closeness = self.bank.directions @ self.directions.T
        return [np.flatnonzero(column < PARAPHRASE) for column in closeness.T]
