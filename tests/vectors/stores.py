"""Stores to publish, in the tests' process or in another, which starts faster without pytest and hypothesis."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipkit.vectors.manifest import Manifest
from clipkit.vectors.publishing import publish

SPACE = "tiny"


def unit(rng, n, d):
    """Return unit vectors float32 (n, d), rounded to half precision like those of a catalog."""
    vectors = rng.standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def put(folder: Path, ids: np.ndarray, vectors: np.ndarray, *, chunk: int = 700, revision: int = 0) -> Manifest:
    chunks = [(ids[i : i + chunk], vectors[i : i + chunk]) for i in range(0, len(ids), chunk)]
    watermark = int(ids[-1]) if len(ids) else 0
    return publish(folder, chunks, space=SPACE, dimension=vectors.shape[1], watermark=watermark, revision=revision)


def contents(revision: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and vectors that the publisher writes with this revision."""
    rng = np.random.default_rng(revision)
    n = 1000 + 700 * revision
    return np.arange(1, n + 1) + 10_000 * revision, unit(rng, n, 24)
