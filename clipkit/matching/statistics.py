"""What a library's vectors are like, as running sums: adding a batch never looks at the older vectors again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import ConceptBank, Floats

BEST = 4  # how many best scores are kept of every concept
# The mean of few pictures says what these pictures show, not what all pictures share: so many pictures' weight of a
# mean at the origin is mixed in. Ten gave the best decisions for libraries of one to ten photos.
PRIOR_PICTURES = 10
CHUNK = 4096  # rows at a time, so that scoring a million pictures against the bank needs little memory


@dataclass
class LibraryStatistics:
    """Sums over n image vectors of d dimensions, and the best scores of c concepts.

    Attributes: `count` n; `total` (d,) float64, the sum of the vectors; `outer` (d, d) float64, the sum of their
    outer products; `best` (c, BEST) float32, each concept's highest scores against the pictures, falling, -inf where
    there are fewer pictures. A score is the picture times the concept's centred direction; the mean picture is not
    taken off, because it moves when pictures are added, and for one concept that is the same amount for all.
    """

    count: int
    total: NDArray[np.float64]
    outer: NDArray[np.float64]
    best: Floats

    @classmethod
    def empty(cls, dimension: int, concepts: int) -> LibraryStatistics:
        """The statistics of a library without pictures."""
        return cls(
            0,
            np.zeros(dimension),
            np.zeros((dimension, dimension)),
            np.full((concepts, BEST), -np.inf, np.float32),
        )

    def add(self, vectors: Floats, bank: ConceptBank) -> None:
        """Counts a batch of image vectors, (m, d) float32 of unit length, in."""
        for rows in _chunks(vectors):
            self.count += len(rows)
            self.total += rows.sum(axis=0, dtype=np.float64)
            self.outer += rows.T @ rows
            self.best = _highest(np.concatenate([self.best, bank.directions @ rows.T], axis=1))

    @property
    def mean(self) -> Floats:
        """The mean picture, (d,) float32, drawn towards the origin while pictures are few."""
        return (self.total / (self.count + PRIOR_PICTURES)).astype(np.float32)

    def covariance(self) -> Floats:
        """Second moment of the pictures about `mean`, (d, d) float32; zeros for an empty library."""
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
