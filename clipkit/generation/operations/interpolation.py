"""Interpolation of image embeddings: directions on the sphere, norms linearly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipkit.errors import BadQuery
from clipkit.vectors.unit import unit

_OPPOSITE = -1 + 1e-9
"""Cosine similarity below which two directions have no shortest arc between them."""


def slerp(start: np.ndarray, end: np.ndarray, t: float) -> np.ndarray:
    """Interpolate spherically between two unit vectors (d,): `start` at t = 0, `end` at t = 1; float64, unit length.

    Shoemake, "Animating rotation with quaternion curves" (SIGGRAPH 1985). Raises BadQuery for opposite directions.
    """
    cosine = float(np.clip(start @ end, -1, 1))
    if cosine < _OPPOSITE:
        raise BadQuery("the two embeddings point in opposite directions: there is no single way between them")
    across = end - cosine * start
    sine = float(np.linalg.norm(across))
    if sine < 1e-12:
        return start
    angle = t * np.arctan2(sine, cosine)
    return unit(np.cos(angle) * start + np.sin(angle) * across / sine, np.float64)


def interpolate(embeddings: np.ndarray, weights: Sequence[float], *, rounds: int = 50) -> np.ndarray:
    """Interpolate between embeddings (n, d) with weights of sum 1; float32 (d,).

    The direction is the weighted mean on the sphere: `slerp` for two, and for more the point with the least weighted
    sum of squared arcs to all, found as in Buss and Fillmore, "Spherical averages" (ACM Transactions on Graphics,
    2001). The norm is the weighted mean of the norms, because decoders treat a short embedding as a vague one. Raises
    BadQuery if the directions cancel out.
    """
    kept = [(embedding, weight) for embedding, weight in zip(embeddings, weights, strict=True) if weight > 0]
    if len(kept) == 1:
        return np.asarray(kept[0][0], np.float32)
    points = np.asarray([embedding for embedding, _ in kept], np.float64)
    shares = np.asarray([weight for _, weight in kept])
    norm, directions = shares @ np.linalg.norm(points, axis=1), unit(points, np.float64)
    if len(kept) == 2:
        return (norm * slerp(directions[0], directions[1], float(shares[1]))).astype(np.float32)
    mean = shares @ directions
    if np.linalg.norm(mean) < 1e-6:
        raise BadQuery("the embeddings cancel out: change the weights")
    mean = unit(mean, np.float64)
    for _ in range(rounds):
        cosines = np.clip(directions @ mean, -1, 1)
        across = directions - cosines[:, None] * mean
        sines = np.maximum(np.linalg.norm(across, axis=1), 1e-12)
        step = shares @ (across * (np.arctan2(sines, cosines) / sines)[:, None])
        length = float(np.linalg.norm(step))
        if length < 1e-12:
            break
        mean = unit(np.cos(length) * mean + np.sin(length) * step / length, np.float64)
    return (norm * mean).astype(np.float32)


def turn(embedding: np.ndarray, direction: np.ndarray, amount: float) -> np.ndarray:
    """Turn an embedding (d,) towards a direction (d,) by `slerp`; its norm stays; float32 (d,).

    Text diffs: Ramesh et al., "Hierarchical text-conditional image generation with CLIP latents" (2022), section 3.3.
    """
    start = unit(np.asarray(embedding, np.float64), np.float64)
    end = unit(np.asarray(direction, np.float64), np.float64)
    return (np.linalg.norm(embedding) * slerp(start, end, amount)).astype(np.float32)
