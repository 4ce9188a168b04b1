"""Draw any number of vectors with the statistics of real CLIP embeddings, for benchmarks of vector search.

The file holds image and text embeddings of a real model, see `read_vectors`. Pictures of a large library come in
scenes of a few hundred: a scene is a random blend of two real pictures plus noise with the covariance of the real ones,
a picture is its scene plus less of that noise. Text queries are the real ones, so that they lie outside the pictures'
distribution as they do in practice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipkit.vectors.unit import unit

PER_SCENE = 200


@dataclass(frozen=True)
class RealVectors:
    """images: (n, d) and texts: (m, d), float32 of unit length."""

    images: np.ndarray
    texts: np.ndarray


def read_vectors(path: Path) -> RealVectors:
    """Read an .npz file with the arrays `image_vectors` and `text_vectors`."""
    with np.load(path) as file:
        return RealVectors(unit(file["image_vectors"]), unit(file["text_vectors"]))


def synthetic_images(
    real: RealVectors, count: int, seed: int = 0, chunk: int = 8192
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield chunks of ids from 1, int64 (m,), and unit vectors, float32 (m, d) with half-precision values."""
    rng = np.random.default_rng(seed)
    images = real.images
    values, axes = np.linalg.eigh(np.cov(images.T))
    spread = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32)

    def noise(rows: int) -> np.ndarray:
        return rng.standard_normal((rows, images.shape[1]), np.float32) @ spread.T

    scenes = max(1, count // PER_SCENE)
    pairs = rng.integers(0, len(images), (scenes, 2))
    share = rng.beta(1, 3, (scenes, 1)).astype(np.float32)
    centres = (1 - share) * images[pairs[:, 0]] + share * images[pairs[:, 1]] + 0.5 * noise(scenes)
    for start in range(0, count, chunk):
        rows = min(chunk, count - start)
        scale = rng.uniform(0.3, 0.9, (rows, 1)).astype(np.float32)
        vectors = unit(centres[rng.integers(0, scenes, rows)] + scale * noise(rows))
        yield np.arange(start + 1, start + rows + 1), vectors.astype(np.float16).astype(np.float32)
