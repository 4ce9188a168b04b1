"""From evidence to a probability: one logistic model with fixed weights.

The weights were fitted on public research vectors (`scripts/evaluate_match.py --fit`), on libraries of one to a
thousand pictures with and without what is asked, and are judged there with words and pictures that they have not
seen. They speak of dimensionless numbers, so that they hold for other spaces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Margin of the best hit, lead of the four best, spread of the words, number of pictures: see `text_evidence`.
TEXT_WEIGHTS = np.array([0.8, 0.71, -1.79, -0.72])
TEXT_OFFSET = 0.93
IMAGE_SLOPE, IMAGE_MIDDLE = 8.0, 0.5

# Chosen so that at most one in ten present queries is turned away, on all the libraries the weights were fitted on.
THRESHOLD = 0.25


def probability(logit: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The logistic function, without overflow."""
    return 1 / (1 + np.exp(-np.clip(logit, -50, 50)))


def text_logit(evidence: NDArray[np.float64]) -> float:
    """Log odds that the library has what a text asks for, from the evidence of `text_evidence`."""
    return float(evidence @ TEXT_WEIGHTS) + TEXT_OFFSET


def image_logit(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds that a picture shows what the query picture shows, from their similarity in [-1, 1]."""
    return IMAGE_SLOPE * (similarity - IMAGE_MIDDLE)
