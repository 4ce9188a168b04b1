"""Running statistics of a library's vectors; adding a batch does not revisit older vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import ConceptBank, Floats

BEST = 4
"""Highest scores kept per concept."""
PRIOR_PICTURES = 10
"""Weight, in pictures, of a prior mean at the origin: the mean of a few pictures reflects what these show rather than
what all pictures share. Ten gave the best decisions for libraries of one to ten photos."""
CHUNK = 4096
"""Rows scored at a time, which bounds memory for a million pictures."""


@dataclass
class LibraryStatistics:
    """Sums over n image vectors of dimension d, and the highest scores of c concepts.

    count: the number of vectors, n.
    total: (d,) float64, their sum.
    outer: (d, d) float64, the sum of their outer products.
    best: (c, BEST) float32, each concept's highest scores in descending order, padded with -inf.

    A score is the dot product of a picture with a concept's centred direction. Pictures are not centred here, because
    their mean moves as pictures are added; it shifts all scores of a concept by the same amount.
    """

    count: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]
    best: Floats

    @classmethod
    def empty(cls, dimension: int, concepts: int) -> LibraryStatistics:
        """Return the statistics of an empty library."""
        return cls(
            0,
            np.zeros(dimension),
            np.zeros((dimension, dimension)),
            np.full((concepts, BEST), -np.inf, np.float32),
        )

    def add(self, vectors: Floats, bank: ConceptBank) -> None:
        """Add a batch of image vectors, (m, d) float32 of unit length."""
        for rows in _chunks(vectors):
            self.count += len(rows)
            self.total += rows.sum(axis=0, dtype=np.float64)
            self.outer += rows.T @ rows
            self.best = _highest(np.concatenate([self.best, bank.directions @ rows.T], axis=1))

    @property
    def mean(self) -> Floats:
        """The mean picture, (d,) float32, shrunk towards the origin while there are few pictures."""
        return (self.total / (self.count + PRIOR_PICTURES)).astype(np.float32)

    def covariance(self) -> Floats:
        """Return the second moment of the pictures about `mean`, (d, d) float32; zeros for an empty library."""
        if not self.count:
            return np.zeros(self.outer.shape, np.float32)
        mean, average = self.mean.astype(np.float64), self.total / self.count
        cross = np.outer(mean, average)
        return (self.outer / self.count - cross - cross.T + np.outer(mean, mean)).astype(np.float32)


def _chunks(vectors: Floats) -> Iterator[Floats]:
    for start in range(0, len(vectors), CHUNK):
        yield np.asarray(vectors[start : start + CHUNK], np.float32)


def _highest(scores: Floats) -> Floats:
    return -np.sort(-np.partition(scores, -BEST, axis=1)[:, -BEST:], axis=1)
