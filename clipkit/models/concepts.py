"""A model's concept bank as vectors, encoded once and cached."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clipkit.atomic import atomic_write
from clipkit.models.encoder import Encoder
from clipkit.vectors.unit import unit

CONCEPTS_PER_REPORT = 64
"""Number of texts encoded between two calls of `report`."""


def concept_vectors(
    encoder: Encoder, concepts: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Return unit vectors float32 (c, d) of the concepts; `report` is called with how many are done, and of how many.

    The key of the cache covers the model, the words and a probe of the weights. A cache file that is missing or
    corrupt, or cannot be written, only costs time.
    """
    probe = encoder.encode_texts([concepts[0]]).round(4).tobytes()
    key = hashlib.sha256("\n".join((encoder.space, *concepts)).encode() + probe).hexdigest()[:32]
    path = _cache_folder() / f"{key}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        cached = np.load(path, allow_pickle=False)
        if cached.shape == (len(concepts), encoder.dimension):
            return cached.astype(np.float32)
    parts = []
    for start in range(0, len(concepts), CONCEPTS_PER_REPORT):
        parts.append(encoder.encode_texts(list(concepts[start : start + CONCEPTS_PER_REPORT])))
        report(min(start + CONCEPTS_PER_REPORT, len(concepts)), len(concepts))
    vectors = unit(np.concatenate(parts))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, vectors)
    return vectors


def _cache_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("clipkit")) / "concepts"
