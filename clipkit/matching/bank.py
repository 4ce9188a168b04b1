"""The concept bank: everyday words that a picture may show instead of what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@lru_cache(maxsize=1)
def concepts() -> tuple[str, ...]:
    """The shipped everyday nouns and short phrases, in the order of the file, each once.

    A space encodes them once, each as "a {concept}" or in the prompt its text tower prefers, and caches the vectors.
    """
    lines = (Path(__file__).with_name("concepts.txt")).read_text(encoding="utf-8").splitlines()
    words = (line.strip() for line in lines)
    return tuple(dict.fromkeys(word for word in words if word and not word.startswith("#")))


def unit(vectors: NDArray) -> Floats:
    """The rows at length one, float32; a row of zeros stays zero."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


@dataclass(frozen=True)
class ConceptBank:
    """Text vectors of many concepts, (c, d) float32 of unit length.

    The mean text is taken off before two texts, or a text and a picture, are compared: CLIP's texts and pictures
    lie in two narrow cones, and what all texts share says nothing about a picture (the modality gap: Liang et al.,
    "Mind the Gap", NeurIPS 2022).
    """

    vectors: Floats

    @cached_property
    def mean(self) -> Floats:
        """The mean text, (d,) float32; zeros for an empty bank."""
        if not len(self.vectors):
            return np.zeros(self.vectors.shape[1], np.float32)
        return self.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def directions(self) -> Floats:
        """What sets each concept apart from the mean text, (c, d) float32 of unit length."""
        return unit(self.vectors - self.mean)
