"""The concept bank: everyday words for what a picture may show instead of what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipkit.vectors.unit import unit

Floats = NDArray[np.float32]
PARAPHRASE = 0.6
"""Centred cosine similarity from which a concept counts as a paraphrase of the query rather than a rival."""
SHRINKAGE = 15.0
"""How strongly the bank's covariance is shrunk towards the identity before whitening, times dimensions per concept: the
fewer concepts, the less their covariance says."""


@lru_cache(maxsize=1)
def concepts() -> tuple[str, ...]:
    """Return the bundled everyday nouns and short phrases, without duplicates, in the order of the file.

    Each model encodes them once, and the vectors are cached.
    """
    lines = (Path(__file__).with_name("concepts.txt")).read_text(encoding="utf-8").splitlines()
    words = (line.strip() for line in lines)
    return tuple(dict.fromkeys(word for word in words if word and not word.startswith("#")))


@dataclass(frozen=True)
class ConceptBank:
    """The text embeddings of many concepts, centred.

    mean: (d,) float32, the mean text embedding.
    directions: (c, d) float32 of unit length, the centred embeddings.
    whitening: (d, d) float32, the inverse of the shrunk covariance of the directions.
    lengths: (c,) float32, the length of each direction in the metric of `whitening`.

    Embeddings are centred before two texts, or a text and a picture, are compared: CLIP's texts and pictures lie in two
    narrow cones, and what all texts share says nothing about a picture (the modality gap: Liang et al., "Mind the Gap",
    NeurIPS 2022).

    Texts vary most along a few directions that many concepts share. Scores along `whitening @ direction` weight these
    down, and count what sets a concept apart from the others: the linear discriminant of Fisher (1936), with the
    covariance shrunk as in Ledoit & Wolf (2004).
    """

    mean: Floats
    directions: Floats
    whitening: Floats
    lengths: Floats

    @classmethod
    def of(cls, vectors: Floats) -> ConceptBank:
        """Build the bank from text embeddings, (c, d) float32 of unit length, c at least 1."""
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        directions = unit(vectors - mean)
        ratio = len(mean) / len(directions)
        # Scaled to a mean eigenvalue of 1, or 0 if all concepts are equal.
        covariance = directions.T @ directions * np.float32(ratio)
        identity = np.eye(len(mean), dtype=np.float32)
        whitening = np.linalg.inv(covariance + SHRINKAGE * ratio * identity).astype(np.float32)
        lengths = np.sqrt(np.einsum("cd,cd->c", directions @ whitening, directions))
        return cls(mean, directions, whitening, np.maximum(lengths, 1e-6).astype(np.float32))

    @property
    def dimension(self) -> int:
        """The dimension d of the embeddings."""
        return len(self.mean)

    def length(self, direction: Floats) -> float:
        """Return the length of a text direction, (d,), in the metric of `whitening`."""
        return float(np.sqrt(max(float(direction @ self.whitening @ direction), 1e-12)))
