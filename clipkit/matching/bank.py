"""The concept bank: everyday words for what a picture may show instead of what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipkit.vectors.unit import unit

Floats = NDArray[np.float32]


@lru_cache(maxsize=1)
def concepts() -> tuple[str, ...]:
    """Return the bundled everyday nouns and short phrases, without duplicates, in the order of the file.

    Each model encodes them once, and the vectors are cached.
    """
    lines = (Path(__file__).with_name("concepts.txt")).read_text(encoding="utf-8").splitlines()
    words = (line.strip() for line in lines)
    return tuple(dict.fromkeys(word for word in words if word and not word.startswith("#")))


@dataclass(frozen=True)
class ConceptBank:
    """The text embeddings of many concepts, centred.

    mean: (d,) float32, the mean text embedding.
    directions: (c, d) float32 of unit length, the centred embeddings.

    Embeddings are centred before two texts, or a text and a picture, are compared: CLIP's texts and pictures lie in two
    narrow cones, and what all texts share says nothing about a picture (the modality gap: Liang et al., "Mind the Gap",
    NeurIPS 2022).
    """

    mean: Floats
    directions: Floats

    @classmethod
    def of(cls, vectors: Floats) -> ConceptBank:
        """Build the bank from text embeddings, (c, d) float32 of unit length, c at least 1."""
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, unit(vectors - mean))

    @property
    def dimension(self) -> int:
        """The dimension d of the embeddings."""
        return len(self.mean)
