"""Scaling vectors to unit length."""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
    """Return the rows of `vectors` (..., d) scaled to length 1, as `dtype`; zero rows stay zero."""
    vectors = np.asarray(vectors, dtype)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1).astype(dtype)
