"""The concept bank of a space as vectors, encoded once and kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipkit.atomic import atomic_write
from clipkit.models.encoder import Encoder, unit

CHUNK = 64
"""Texts between two calls of `report`."""


def concept_vectors(
    encoder: Encoder, concepts: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Unit vectors float32 (c, d) of the concepts in the encoder's space; `report` gets how many are done, of how many.

    The cache is keyed by the space, the words and a probe of the weights, and only ever saves time: a file that is
    missing, torn, or cannot be written changes nothing.
    """
    probe = encoder.encode_texts([concepts[0]]).round(4).tobytes()
    key = hashlib.sha256("\n".join((encoder.space, *concepts)).encode() + probe).hexdigest()[:32]
    path = _cache() / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        cached = np.load(path, allow_pickle=False)
        if cached.shape == (len(concepts), encoder.dimension):
            return cached.astype(np.float32)
    parts = []
    for start in range(0, len(concepts), CHUNK):
        parts.append(encoder.encode_texts(list(concepts[start : start + CHUNK])))
        report(min(start + CHUNK, len(concepts)), len(concepts))
    vectors = unit(np.concatenate(parts))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, vectors)
    return vectors


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit")) / "concepts"
