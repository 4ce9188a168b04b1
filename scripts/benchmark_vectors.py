"""Vectors that are distributed as CLIP's: clustered, anisotropic, the texts apart from the pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 10_000
PER_SCENE = 200
OWN = 0.9
"""Share of a picture's rest that it does not have in common with its scene.

With it a text needs as many probes as with the statistics of real CLIP vectors (`synthetic_clip`): of 100 thousand
pictures in 1024 lists, a recall@10 of 0.99 takes 36 lists here and 35 there. Without scenes it took 637.
"""
GAP, MEANING, REST = 0.7, 0.45, 0.55
"""Lengths of the three parts of a picture's vector before it is scaled: what all pictures share, what texts can say
about it, and everything else. Two pictures then have a mean cosine of about 0.5, as in published CLIP models."""


def image_vectors(texts: np.ndarray, count: int, *, first_chunk: int = 0, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield chunks of unit vectors, float32 (m, d), of `count` pictures in all; fewer pictures are a prefix of more.

    texts: unit vectors (c, d) of phrases, from the text tower that will encode the queries.
    first_chunk: a large number gives other pictures from the same world.

    Every picture lies on the far side of the modality gap (Liang et al., 2022) and comes in a scene of two hundred. A
    scene shows one to three of the phrases, some phrases far more often than others (Zipf), and has a rest of falling
    variance in the other directions, of which its pictures share a part.
    """
    rng = np.random.default_rng([seed, 1])
    dimension = texts.shape[1]
    mean = texts.mean(0)
    phrases = texts - mean
    phrases /= np.maximum(np.linalg.norm(phrases, axis=1, keepdims=True), 1e-9)
    away = rng.standard_normal(dimension)
    away -= 0.9 * (away @ mean) / (mean @ mean) * mean
    away *= GAP / np.linalg.norm(away)
    rotation = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    spread = (1 + np.arange(dimension)) ** -0.4
    shape = ((rotation * (REST * spread / np.linalg.norm(spread))) @ rotation.T).astype(np.float32)
    away, phrases = away.astype(np.float32), phrases.astype(np.float32)
    share = 1.0 / (10 + np.arange(len(phrases)))
    share /= share.sum()
    order = rng.permutation(len(phrases))
    for number, start in enumerate(range(0, count, CHUNK), first_chunk):
        rng = np.random.default_rng([seed, 2, number])
        in_chunk = CHUNK // PER_SCENE
        shown = order[rng.choice(len(phrases), (in_chunk, 3), p=share)]
        weight = np.array([1.0, 0.6, 0.4]) * (rng.random((in_chunk, 3)) < np.array([1.0, 0.6, 0.3]))
        weight *= MEANING / np.linalg.norm(weight, axis=1, keepdims=True)
        common = np.sqrt(np.float32(1 - OWN**2)) * (rng.standard_normal((in_chunk, dimension), np.float32) @ shape)
        for place in range(3):
            common += weight[:, place, None].astype(np.float32) * phrases[shown[:, place]]
        vectors = np.float32(OWN) * (rng.standard_normal((CHUNK, dimension), np.float32) @ shape)
        vectors += away + common[rng.integers(0, in_chunk, CHUNK)]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield vectors[: count - start]


def queries(phrases: tuple[str, ...], count: int, seed: int = 0) -> list[str]:
    """Return texts to search for that are not phrases themselves: one or two of them in a sentence."""
    rng = np.random.default_rng([seed, 3])
    forms = (
        "a photo of {}",
        "{} in the evening",
        "a picture that shows {} and {}",
        "{} beside {}",
        "my best photo of {}",
    )
    texts = []
    for _ in range(count):
        first, second = rng.choice(len(phrases), 2, replace=False)
        texts.append(str(rng.choice(forms)).format(phrases[first], phrases[second]))
    return texts


def exact_top(vectors: Iterator[np.ndarray], wanted: np.ndarray, k: int) -> np.ndarray:
    """Return the positions, int64 (q, k), of the k vectors nearest to each of `wanted` (q, d), as stored in 16 bits."""
    scores = np.full((len(wanted), 0), -np.inf, np.float32)
    positions = np.zeros((len(wanted), 0), np.int64)
    start = 0
    for chunk in vectors:
        scores = np.concatenate([scores, wanted @ chunk.astype(np.float16).astype(np.float32).T], 1)
        places = np.broadcast_to(np.arange(start, start + len(chunk)), (len(wanted), len(chunk)))
        positions = np.concatenate([positions, places], 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, positions = np.take_along_axis(scores, best, 1), np.take_along_axis(positions, best, 1)
        start += len(chunk)
    return positions
