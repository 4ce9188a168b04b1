"""How alike two pictures are, for queries by picture: what they show, and whether one is a copy of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import Floats
from clipkit.matching.evidence import Reference

TEMPERATURE = 1.5
"""Sharpness of the distribution over concepts; between 1 and 2 queries by photograph were decided best."""
NEAREST_COPY = 1e-4
"""Relative distances below this are those of equal pictures; half precision does not resolve smaller ones."""


@dataclass(frozen=True)
class Likeness:
    """How alike a query picture and each hit are: `concept_overlap` and `copy_distance`, (k,) float64."""

    overlap: NDArray[np.float64]
    distance: NDArray[np.float64]

    @classmethod
    def of(cls, reference: Reference, query: Floats, hits: Floats) -> Likeness:
        """Compare a query, (d,), with hits, (k, d), all float32 of unit length."""
        return cls(concept_overlap(reference, query, hits), copy_distance(reference, query, hits))


def concept_overlap(reference: Reference, query: Floats, hits: Floats) -> NDArray[np.float64]:
    """Return how far two pictures are described by the same concepts: (d,), (k, d) to (k,) in [0, 1].

    The cosine similarity of pictures also rises with a common style or colours. The words that fit them compare better
    what they show (SpLiCE: Bhalla et al., NeurIPS 2024). Each picture's scores for all concepts become a distribution
    by the softmax function; the result is the Bhattacharyya coefficient of the two.
    """
    scores = TEMPERATURE * reference.described(np.concatenate([query[None], hits])).astype(np.float64)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    roots = np.sqrt(shares / shares.sum(axis=1, keepdims=True))
    return np.clip(roots[1:] @ roots[0], 0.0, 1.0)


def copy_distance(reference: Reference, query: Floats, hits: Floats) -> NDArray[np.float64]:
    """Return the distance of each hit from the query, on a scale of its own: (d,), (k, d) to (k,).

    It is log10((1 - cosine) / (1 - |mean|^2)), the cosine distance relative to that of two pictures drawn at random
    from the library, so that models are comparable: 0 for unrelated pictures, and at least -4, for equal ones.
    """
    typical = max(1.0 - float(reference.mean @ reference.mean), 1e-3)
    distances = (1.0 - (hits @ query).astype(np.float64)) / typical
    return np.log10(np.maximum(distances, NEAREST_COPY))
