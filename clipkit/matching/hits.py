"""What speaks for a single hit showing what a text asks for: three numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import Floats
from clipkit.matching.evidence import Reference, mean_of_rivals


def hit_evidence(reference: Reference, texts: Floats, directions: Floats, hits: Floats) -> NDArray[np.float64]:
    """Return what speaks for each hit showing each text, (m, k, 3): margin, distance to the best hit, cosine.

    texts: (m, d) float32 of unit length.
    directions: (m, d) float32 of unit length, the texts without the mean text.
    hits: (k, d) float32 unit image vectors, k at least 1.

    Scores are taken along whitened text directions, see `ConceptBank`, in units of their spread over pictures and
    concepts. The margin is a hit's score less the mean score of the concepts that describe it best, paraphrases of the
    text left out. The distance to the best hit is 0 or less: scores for one text are comparable as they are, while
    those for different texts lie at different levels.
    """
    bank = reference.bank
    pictures = reference.whitened(hits)
    described = reference.described(hits)
    closeness = directions @ bank.directions.T
    evidence = np.zeros((len(texts), len(hits), 3))
    for row, (text, direction) in enumerate(zip(texts, directions, strict=True)):
        scores = pictures @ direction / bank.length(direction)
        evidence[row, :, 0] = scores - mean_of_rivals(described, closeness[row])
        evidence[row, :, 1] = scores - scores.max()
        evidence[row, :, 2] = hits @ text
    return evidence


def with_parts(whole: NDArray[np.float64], parts: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return the probability that hits show a query of several parts, (k,), from its own and its parts', (m, k).

    It is the geometric mean of the whole query's and of the weakest part's, which has the given weight: the whole
    query's vector leans to its strongest part, and a hit that lacks one part must not pass for the others. Without
    parts it is the whole query's.
    """
    return whole ** (1 - weight) * parts.min(axis=0) ** weight if len(parts) else whole
