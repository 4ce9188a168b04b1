"""The similarity of what two pictures show, for queries by picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipkit.matching.bank import Floats
from clipkit.matching.evidence import Reference


def picture_similarity(reference: Reference, query: Floats, hits: Floats) -> NDArray[np.float64]:
    """Return the correlation of two pictures' scores over all concepts of the bank: (d,), (k, d) -> (k,) in [-1, 1].

    The cosine similarity of pictures also rises with a common style or colours. What they show is compared better by
    the words that fit them (the concept space of SpLiCE, here dense: Bhalla et al., "Interpreting CLIP with Sparse
    Linear Concept Embeddings", NeurIPS 2024).
    """
    both = np.concatenate([query[None], hits])
    profiles = reference.pictures(both) @ reference.bank.directions.T
    profiles -= profiles.mean(axis=1, keepdims=True)
    lengths = np.maximum(np.linalg.norm(profiles, axis=1), 1e-9)
    return np.clip((profiles[1:] @ profiles[0]) / (lengths[1:] * lengths[0]), -1, 1).astype(np.float64)
