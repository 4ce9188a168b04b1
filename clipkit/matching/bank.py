"""The concept bank: everyday words that a picture may show instead of what was asked for."""

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
    """The shipped everyday nouns and short phrases, in the order of the file, each once.

    A space encodes them once, each as "a {concept}" or in the prompt its text tower prefers, and caches the vectors.
    """
    lines = (Path(__file__).with_name("concepts.txt")).read_text(encoding="utf-8").splitlines()
    words = (line.strip() for line in lines)
    return tuple(dict.fromkeys(word for word in words if word and not word.startswith("#")))


@dataclass(frozen=True)
class ConceptBank:
    """Many concepts as texts, without what all texts share.

    Attributes: `mean` (d,) float32, the mean text; `directions` (c, d) float32 of unit length, what sets each concept
    apart from it. The mean is taken off before two texts, or a text and a picture, are compared: CLIP's texts and
    pictures lie in two narrow cones, and what all texts share says nothing about a picture (the modality gap: Liang
    et al., "Mind the Gap", NeurIPS 2022).
    """

    mean: Floats
    directions: Floats

    @classmethod
    def of(cls, vectors: Floats) -> ConceptBank:
        """The bank of concepts' text vectors, (c, d) float32 of unit length, c at least 1."""
        mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, unit(vectors - mean))

    @property
    def dimension(self) -> int:
        """Number of dimensions d."""
        return len(self.mean)
